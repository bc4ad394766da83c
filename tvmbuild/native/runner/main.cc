// tvmbuild-runner: loads a compiled model, runs it on .npy inputs, times it and writes its outputs; or serves clients.

#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "common/failure.h"
#include "common/npy.h"
#include "common/printable.h"
#include "runner/model.h"
#include "runner/options.h"
#include "runner/staged_tasks.h"
#include "runtime/memory.h"
#include "runtime/parallel_loops.h"
#include "runtime/threads.h"
#include "server/serve.h"
#include "server/serve_options.h"

namespace tvmbuild {
namespace {

std::vector<double> TimeRuns(const Options& options, Model* model) {
  using Clock = std::chrono::steady_clock;
  if (options.markers) Mark(Marker::kWarm);
  for (int i = 0; i < options.warmup; ++i) model->Run();
  if (options.cold) Mark(Marker::kEmpty);
  std::vector<double> seconds;
  seconds.reserve(static_cast<size_t>(options.repeat));
  if (options.markers) Mark(Marker::kStart);
  for (int i = 0; i < options.repeat; ++i) {
    const Clock::time_point start = Clock::now();
    model->Run();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  if (options.markers) Mark(Marker::kStop);
  return seconds;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

void PrintJson(const std::vector<double>& seconds, const std::vector<Output>& outputs) {
  std::printf("{\"seconds\": [");
  for (size_t i = 0; i < seconds.size(); ++i) std::printf("%s%.9f", i == 0 ? "" : ", ", seconds[i]);
  std::printf("], \"peak_bytes\": %llu, \"outputs\": [", static_cast<unsigned long long>(PeakResidentBytes()));
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::printf("%s{\"dtype\": \"%s\", \"shape\": %s}", i == 0 ? "" : ", ", NpyDescription(outputs[i].dtype).c_str(),
                ShapeText(outputs[i].shape).c_str());
  }
  std::printf("]}\n");
}

void PrintText(const std::vector<double>& seconds, const std::vector<Output>& outputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::printf("output %zu: %s %s\n", i, NpyDescription(outputs[i].dtype).c_str(),
                ShapeText(outputs[i].shape).c_str());
  }
  double least = seconds[0], sum = 0;
  for (const double one : seconds) {
    least = one < least ? one : least;
    sum += one;
  }
  std::printf("%zu runs: %.3f ms on average, %.3f ms at best; peak memory %.1f MiB\n", seconds.size(),
              1e3 * sum / static_cast<double>(seconds.size()), 1e3 * least,
              static_cast<double>(PeakResidentBytes()) / (1024.0 * 1024.0));
}

// Before the model runs, so that its outputs are not lost.
void MakeFolder(const std::string& path) {
  constexpr mode_t kEverybody = 0777;  // less the umask
  if (mkdir(path.c_str(), kEverybody) != 0 && errno != EEXIST) {
    throw Failure(ExitCode::kOutput, "cannot make the folder " + path + ": " + std::strerror(errno));
  }
}

void Run(const Options& options) {
  SetThreads(options.threads);
  if (options.markers && options.threads > 1) {
    StageTasks(options.threads);
  } else {
    ShareParallelLoops();
  }
  if (!options.output_dir.empty()) MakeFolder(options.output_dir);
  Model model(options.library);
  std::vector<NpyArray> inputs;
  inputs.reserve(options.inputs.size());
  for (const std::string& path : options.inputs) inputs.push_back(ReadNpy(path));
  model.SetInputs(std::move(inputs));
  const std::vector<double> seconds = TimeRuns(options, &model);
  const std::vector<Output> outputs = model.Outputs();
  if (!options.output_dir.empty()) {
    for (size_t i = 0; i < outputs.size(); ++i) {
      WriteNpy(options.output_dir + "/output_" + std::to_string(i) + ".npy", outputs[i].dtype, outputs[i].shape,
               outputs[i].data);
    }
  }
  options.json ? PrintJson(seconds, outputs) : PrintText(seconds, outputs);
}

}  // namespace
}  // namespace tvmbuild

int main(int argc, char** argv) {
  const bool serves = argc > 1 && std::string(argv[1]) == "serve";
  try {
    if (serves) {
      tvmbuild::Serve(argc - 2, argv + 2);
      return 0;
    }
    const tvmbuild::Options options = tvmbuild::ParseOptions(argc, argv);
    if (options.help) {
      std::fputs(tvmbuild::kUsage, stdout);
    } else {
      tvmbuild::Run(options);
    }
    return std::fflush(stdout) == 0 ? 0 : static_cast<int>(tvmbuild::ExitCode::kOutput);
  } catch (const tvmbuild::Failure& failure) {
    std::fprintf(stderr, "tvmbuild-runner: %s\n", tvmbuild::Printable(failure.what()).c_str());
    if (failure.code() == static_cast<int>(tvmbuild::ExitCode::kUsage)) {
      std::fputs(serves ? tvmbuild::kServeUsage : tvmbuild::kUsage, stderr);
    }
    return failure.code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tvmbuild-runner: %s\n", tvmbuild::Printable(error.what()).c_str());
    return static_cast<int>(tvmbuild::ExitCode::kRun);
  }
}
