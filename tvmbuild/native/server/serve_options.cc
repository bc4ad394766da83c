#include "server/serve_options.h"

#include "common/failure.h"
#include "runner/options.h"

namespace tvmbuild {

const char kServeUsage[] =
    "usage: tvmbuild-runner serve --tracker HOST:PORT --key KEY [--host ADDRESS] [--port N] [--threads N]\n"
    "\n"
    "Offers this board to a tracker of TVM. Whoever can reach the port runs any code here: it is bound\n"
    "to this board alone unless told otherwise, and an SSH tunnel brings the clients.\n"
    "\n"
    "  --tracker HOST:PORT  the tracker; without it clients connect directly and show the key\n"
    "  --key KEY            what clients ask the tracker for (rpi4)\n"
    "  --host ADDRESS       address to listen on (127.0.0.1); 0.0.0.0 opens the port to the network\n"
    "  --port N             port to listen on (the first free one from 9091 to 9199)\n"
    "  --threads N          threads that a kernel may use (all cores)\n"
    "  --emulated           say that this is an emulator, whose times mean nothing\n"
    "  --end-with-parent    end when the process that started this one does\n"
    "  --root DIR           read the state of the board below DIR instead of /\n";

namespace {

Address TrackerAddress(const std::string& text) {
  Address address;
  if (!ParseAddress(text, &address)) {
    throw Failure(ExitCode::kUsage, "--tracker takes HOST:PORT or [IPV6]:PORT, not '" + text + "'");
  }
  return address;
}

}  // namespace

ServeOptions ParseServeOptions(int argc, char** argv) {
  ServeOptions options;
  for (int i = 0; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw Failure(ExitCode::kUsage, flag + " needs a value");
      return argv[++i];
    };
    if (flag == "--tracker") {
      options.tracker = TrackerAddress(value());
    } else if (flag == "--key") {
      options.key = value();
    } else if (flag == "--host") {
      options.host = value();
    } else if (flag == "--port") {
      options.first_port = options.last_port = ParseNumber(flag, value(), 1, kLargestPort);
    } else if (flag == "--threads") {
      options.threads = ParseNumber(flag, value(), 1, kMostThreads);
    } else if (flag == "--emulated") {
      options.source.emulated = true;
    } else if (flag == "--end-with-parent") {
      options.end_with_parent = true;
    } else if (flag == "--root") {
      options.source.root = value();
    } else if (flag == "--help" || flag == "-h") {
      options.help = true;
    } else {
      throw Failure(ExitCode::kUsage, "serve has no option " + flag);
    }
  }
  const bool valid = !options.key.empty() && options.key.find_first_of(" :\"\\") == std::string::npos;
  if (!valid && !options.help) throw Failure(ExitCode::kUsage, "--key takes a word without spaces and colons");
  return options;
}

}  // namespace tvmbuild
