"""The time that files in an artifact carry."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from tvmbuild.support.errors import OptionError


def source_date_epoch(environ: Mapping[str, str] | None = None) -> int:
    """Return SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), 0 when it is not set.

    Raises:
        OptionError: it is no number of seconds.
    """
    text = (os.environ if environ is None else environ).get("SOURCE_DATE_EPOCH", "0")
    # The time stamps of tar and gzip end in 2106.
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 1 << 32:
        raise OptionError(f"SOURCE_DATE_EPOCH is {text!r}.", "Set it to seconds since 1970, as 'date +%s' prints.")
    return int(text)
