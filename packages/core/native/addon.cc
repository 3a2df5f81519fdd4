// The addon's entry: one Environment for each Node environment that loads it, and the exports.
#include <napi.h>

#include "environment.h"
#include "exports.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  fdr::Environment::Create(env);
  fdr::ExportReactor(env, exports);
  fdr::ExportFd(env, exports);
  fdr::ExportEventFd(env, exports);
  fdr::ExportTimerFd(env, exports);
  fdr::ExportSignalFd(env, exports);
  fdr::ExportMessage(env, exports);
  fdr::ExportSocket(env, exports);
  fdr::ExportTransfer(env, exports);
  fdr::ExportMemory(env, exports);
  fdr::ExportFlush(env, exports);
  fdr::ExportFileLock(env, exports);
  fdr::ExportCell(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(fd_reactor, Init)
