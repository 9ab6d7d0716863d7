#pragma once
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

/// Turns a CUDA error into an exception with a sentence that says what to do where we know it.
inline void cuda_check(cudaError_t status, const char *what) {
  if (status == cudaSuccess) return;
  std::string text = std::string("pyproj2d3d: ") + what + " failed: " + cudaGetErrorString(status);
  if (status == cudaErrorInsufficientDriver)
    text += " (no NVIDIA driver, or one too old for CUDA " P2D3D_CUDA_VERSION ", which this build was made with)";
  if (status == cudaErrorNoKernelImageForDevice)
    text += " (this build holds code for the architectures " P2D3D_CUDA_ARCHITECTURES
            "; install again with -C cmake.define.CMAKE_CUDA_ARCHITECTURES=native)";
  throw std::runtime_error(text);
}

/// Makes a device current for a scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    cuda_check(cudaGetDevice(&previous_), "cudaGetDevice");
    if (device != previous_) cuda_check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~DeviceGuard() { cudaSetDevice(previous_); }
  DeviceGuard(const DeviceGuard &) = delete;
  DeviceGuard &operator=(const DeviceGuard &) = delete;

 private:
  int previous_ = 0;
};
