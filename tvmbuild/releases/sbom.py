"""The bill of materials of a release, in CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).

It lists what the published files are made of: the models, the runtime libraries, the board's programs; and, as tools,
what made them. Time and serial number come from the contents, so that the same release gives the same file.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from tvmbuild.codegen.runtime_libs import pinned_versions
from tvmbuild.releases.cell import CellResult
from tvmbuild.support.versions import package_versions

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

SBOM_NAME = "sbom.cdx.json"
#: What the board's part of a bundle consists of, besides the model; all under the Apache License 2.0.
_LICENSE = "Apache-2.0"


def sbom_text(version: str, made: Sequence[CellResult], digests: Mapping[str, str], epoch: int) -> str:
    """Return the bill of materials of a release.

    Args:
        version: the release's.
        made: its cells.
        digests: SHA-256 of each published file by its name.
        epoch: time of the release, in seconds since 1970.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    release = Component(name="release", version=version, type=ComponentType.FIRMWARE, bom_ref="release")
    bom = Bom(components=[*_models(made), *_runtime(), *(_file(name, digests[name]) for name in sorted(digests))])
    tools = [_package(name, each, ComponentType.APPLICATION) for name, each in package_versions().items()]
    bom.metadata = BomMetaData(
        component=release,
        tools=ToolRepository(components=tools),
        timestamp=datetime.fromtimestamp(epoch, tz=timezone.utc),
    )
    bom.register_dependency(release, bom.components)
    contents = " ".join(digests[name] for name in sorted(digests))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"tvmbuild {version} {contents}")
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _models(made: Sequence[CellResult]) -> list[Component]:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    models = {one.manifest.model["sha256"]: one.manifest.model["file"] for one in made}
    kind = ComponentType.MACHINE_LEARNING_MODEL
    return [
        Component(name=name, type=kind, hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha)], bom_ref=sha)
        for sha, name in sorted(models.items())
    ]


def _runtime() -> list[Component]:
    from cyclonedx.model.component import ComponentType

    tvm, ffi = pinned_versions()
    own = package_versions()["tvmbuild"]
    packages = {"apache-tvm": tvm, "apache-tvm-ffi": ffi}
    packages |= dict.fromkeys(("tvmbuild-runner", "tvmbuild-check", "tvmbuild-threads"), own)
    return [_package(name, version, ComponentType.LIBRARY, _LICENSE) for name, version in packages.items()]


def _package(name: str, version: str, kind: object, license_id: str = "") -> Component:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import DisjunctiveLicense
    from packageurl import PackageURL

    own = name.startswith("tvmbuild")
    return Component(
        name=name,
        version=version,
        type=kind,  # type: ignore[arg-type]
        purl=None if own else PackageURL("pypi", None, name, version),
        licenses=[DisjunctiveLicense(id=license_id)] if license_id else (),
        bom_ref=f"{'runtime' if license_id else 'tool'}:{name}",
    )


def _file(name: str, digest: str) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    return Component(name=name, type=ComponentType.FILE, hashes=hashes, bom_ref=f"file:{name}")
