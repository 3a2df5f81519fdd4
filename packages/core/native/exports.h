// What the addon offers, one function for each family of system calls.
#pragma once

#include <napi.h>

namespace fdr {

using Callback = Napi::Value (*)(const Napi::CallbackInfo&);

inline void Export(Napi::Env env, Napi::Object exports, const char* name, Callback callback) {
  exports.Set(name, Napi::Function::New(env, callback, name));
}

void ExportReactor(Napi::Env env, Napi::Object exports);
void ExportFd(Napi::Env env, Napi::Object exports);
void ExportEventFd(Napi::Env env, Napi::Object exports);
void ExportTimerFd(Napi::Env env, Napi::Object exports);
void ExportSignalFd(Napi::Env env, Napi::Object exports);
void ExportMessage(Napi::Env env, Napi::Object exports);
void ExportSocket(Napi::Env env, Napi::Object exports);
void ExportTransfer(Napi::Env env, Napi::Object exports);
void ExportMemory(Napi::Env env, Napi::Object exports);
void ExportFlush(Napi::Env env, Napi::Object exports);
void ExportFileLock(Napi::Env env, Napi::Object exports);
void ExportCell(Napi::Env env, Napi::Object exports);

}  // namespace fdr
