// Reading a function's arguments. Values were validated in TypeScript; these only make sure that a wrong type
// cannot crash.
#pragma once

#include <napi.h>

#include <cstdint>

namespace fdr {

inline int32_t Int(const Napi::CallbackInfo& info, size_t index) {
  int32_t value = 0;
  napi_get_value_int32(info.Env(), info[index], &value);
  return value;
}

inline uint32_t Uint(const Napi::CallbackInfo& info, size_t index) {
  return static_cast<uint32_t>(Int(info, index));
}

inline bool Flag(const Napi::CallbackInfo& info, size_t index) {
  bool value = false;
  napi_get_value_bool(info.Env(), info[index], &value);
  return value;
}

inline int64_t Int64(const Napi::CallbackInfo& info, size_t index) {
  int64_t value = 0;
  bool lossless = false;
  if (napi_get_value_bigint_int64(info.Env(), info[index], &value, &lossless) != napi_ok) {
    napi_get_value_int64(info.Env(), info[index], &value);
  }
  return value;
}

inline uint64_t Uint64(const Napi::CallbackInfo& info, size_t index) {
  uint64_t value = 0;
  bool lossless = false;
  napi_get_value_bigint_uint64(info.Env(), info[index], &value, &lossless);
  return value;
}

inline std::string Text(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsString() ? info[index].As<Napi::String>().Utf8Value() : std::string();
}

inline Napi::Value Number(const Napi::CallbackInfo& info, int64_t value) {
  return Napi::Number::New(info.Env(), static_cast<double>(value));
}

struct Bytes {
  uint8_t* data = nullptr;
  size_t size = 0;
};

inline Bytes BytesOf(napi_env env, napi_value value) {
  Bytes bytes;
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, value, &type, &bytes.size, reinterpret_cast<void**>(&bytes.data), nullptr,
                               nullptr) != napi_ok ||
      type != napi_uint8_array) {
    return {};
  }
  return bytes;
}

}  // namespace fdr
