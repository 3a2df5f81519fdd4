// The functions by which src/sys/native.ts reaches a Reactor. The handle that they pass around is opaque to
// JavaScript.
#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "reactor.h"

namespace fdr {

namespace {

using Handle = std::shared_ptr<Reactor>;

Reactor* Of(const Napi::CallbackInfo& info) {
  return info[0].IsExternal() ? info[0].As<Napi::External<Handle>>().Data()->get() : nullptr;
}

bool HasSlot(const Reactor* reactor, uint32_t index) { return reactor != nullptr && reactor->Has(index); }

// Each array buffer holds a reference of its own, so that neither side can free the memory under the other.
Napi::Value View(Napi::Env env, const std::shared_ptr<SharedMemory>& memory) {
  auto* held = new std::shared_ptr<SharedMemory>(memory);
  return Napi::ArrayBuffer::New(
      env, memory->bytes.get(), memory->size,
      [](Napi::Env, void*, std::shared_ptr<SharedMemory>* hint) { delete hint; }, held);
}

// sendSlab() and sendBytes(bytes), for one reactor: the hot path, so plain Node-API and no argument that can
// be avoided.
napi_value SendSlab(napi_env env, napi_callback_info info) {
  void* reactor = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &reactor);
  (*static_cast<Handle*>(reactor))->Send(nullptr, 0);
  return nullptr;
}

napi_value SendBytes(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  void* reactor = nullptr;
  napi_get_cb_info(env, info, &count, &argument, nullptr, &reactor);
  static const uint8_t kNothing = 0;
  const Bytes bytes = BytesOf(env, argument);
  (*static_cast<Handle*>(reactor))->Send(bytes.data == nullptr ? &kNothing : bytes.data, bytes.size);
  return nullptr;
}

// A function that keeps the reactor alive as long as it can be called.
napi_value Bind(napi_env env, const char* name, napi_callback callback, const Handle& reactor) {
  auto* held = new Handle(reactor);
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, held, &function);
  napi_add_finalizer(
      env, function, held, [](napi_env, void* data, void*) { delete static_cast<Handle*>(data); }, nullptr,
      nullptr);
  return function;
}

// createReactor(dispatch, rebuilt, maxEvents, chunkRecords, busyPollMicros, measure) → { handle, fd, id,
// buffers, sendSlab, sendBytes } | -errno
Napi::Value CreateReactor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ReactorOptions options;
  options.max_events = Uint(info, 2);
  options.chunk_records = Uint(info, 3);
  options.busy_poll_ns = int64_t{1000} * Int(info, 4);
  options.measure = Flag(info, 5);
  Handle reactor;
  const int64_t result =
      Reactor::Create(env, info[0].As<Napi::Function>(), info[1].As<Napi::Function>(), options, &reactor);
  if (result < 0) return Number(info, result);
  auto made = Napi::Object::New(env);
  made["handle"] =
      Napi::External<Handle>::New(env, new Handle(reactor), [](Napi::Env, Handle* handle) { delete handle; });
  made["fd"] = Napi::Number::New(env, reactor->fd());
  made["id"] = Napi::BigInt::New(env, reactor->id());
  auto buffers = Napi::Array::New(env);
  for (const auto& memory : reactor->Memory()) buffers[buffers.Length()] = View(env, memory);
  made["buffers"] = buffers;
  made["sendSlab"] = Bind(env, "sendSlab", SendSlab, reactor);
  made["sendBytes"] = Bind(env, "sendBytes", SendBytes, reactor);
  return made;
}

// reactorAdd(handle, index, generation, fd, interest, drain, priority, argument)
Napi::Value Add(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  if (reactor == nullptr || reactor->closed()) return Number(info, -EBADF);
  Slot slot;
  slot.generation = Uint(info, 2);
  slot.fd = Int(info, 3);
  slot.interest = Uint(info, 4);
  slot.drain = static_cast<Drain>(Uint(info, 5));
  slot.priority = static_cast<uint8_t>(std::min(Uint(info, 6), 2u));
  slot.argument = Int64(info, 7);
  return Number(info, slot.fd < 0 ? -EBADF : reactor->Add(Uint(info, 1), slot));
}

Napi::Value Modify(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  return Number(info,
                HasSlot(reactor, Uint(info, 1)) ? reactor->Modify(Uint(info, 1), Uint(info, 2)) : -EBADF);
}

Napi::Value Remove(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  if (HasSlot(reactor, Uint(info, 1))) reactor->Remove(Uint(info, 1));
  return info.Env().Undefined();
}

Napi::Value AddArgument(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  if (HasSlot(reactor, Uint(info, 1))) reactor->AddArgument(Uint(info, 1), Int64(info, 2));
  return info.Env().Undefined();
}

Napi::Value Turn(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  return Number(info, reactor == nullptr ? 0 : reactor->Turn());
}

Napi::Value Wake(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  return Number(info, reactor == nullptr || reactor->closed() ? -EBADF : reactor->Wake());
}

Napi::Value StartUv(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  return Number(info, reactor == nullptr ? -EBADF : reactor->StartUv());
}

Napi::Value SetRef(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  if (reactor != nullptr && !reactor->closed()) reactor->SetRef(Flag(info, 1));
  return info.Env().Undefined();
}

Napi::Value Close(const Napi::CallbackInfo& info) {
  Reactor* reactor = Of(info);
  if (reactor != nullptr) reactor->Close();
  return info.Env().Undefined();
}

}  // namespace

void ExportReactor(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "createReactor", CreateReactor);
  Export(env, exports, "reactorAdd", Add);
  Export(env, exports, "reactorModify", Modify);
  Export(env, exports, "reactorRemove", Remove);
  Export(env, exports, "reactorAddArgument", AddArgument);
  Export(env, exports, "reactorTurn", Turn);
  Export(env, exports, "reactorWake", Wake);
  Export(env, exports, "reactorStartUv", StartUv);
  Export(env, exports, "reactorSetRef", SetRef);
  Export(env, exports, "reactorClose", Close);
}

}  // namespace fdr
