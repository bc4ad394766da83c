// The one exception of the runner: a message for people and the exit code that goes with it.
#ifndef TVMBUILD_COMMON_FAILURE_H_
#define TVMBUILD_COMMON_FAILURE_H_

#include <stdexcept>
#include <string>

namespace tvmbuild {

// Exit codes; tvmbuild/device/runner.py has the same numbers.
enum class ExitCode : int {
  kUsage = 2,    // the command line is wrong
  kLibrary = 3,  // the library cannot be loaded
  kInput = 4,    // an input file is damaged or does not fit the model
  kRun = 5,      // the model failed while it ran
  kOutput = 6,   // an output cannot be written
  kServe = 7,    // the server cannot listen
};

class Failure : public std::runtime_error {
 public:
  Failure(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  int code() const { return static_cast<int>(code_); }

 private:
  ExitCode code_;
};

}  // namespace tvmbuild

#endif  // TVMBUILD_COMMON_FAILURE_H_
