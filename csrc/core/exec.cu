#include "core/exec.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <atomic>
#include <stdexcept>

#ifdef __CUDACC__
#include "core/cuda_check.hpp"
#endif

namespace {
std::atomic<bool> forked{false};
const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

Isa best_isa() {
  if (isa_available(Isa::x86_64_v4)) return Isa::x86_64_v4;
  return isa_available(Isa::x86_64_v3) ? Isa::x86_64_v3 : Isa::x86_64;
}
std::atomic<Isa> active{best_isa()};
}  // namespace

bool in_forked_child() { return forked; }

bool isa_available(Isa isa) {
#ifdef __x86_64__
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  if (isa == Isa::x86_64_v3) return v3;
  if (isa == Isa::x86_64_v4)
    return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#endif
  return isa == Isa::x86_64;
}

void advise_huge_pages(uintptr_t address, size_t size) {
#ifdef __linux__
  constexpr uintptr_t kPage = uintptr_t(1) << 21;
  const uintptr_t begin = (address + kPage - 1) / kPage * kPage, end = (address + size) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

Isa active_isa() { return active; }
void set_isa(Isa isa) { active = isa; }

#ifdef __CUDACC__
int device_count() {
  int n = 0;
  cuda_check(cudaGetDeviceCount(&n), "cudaGetDeviceCount");
  return n;
}

std::string device_name(int device) {
  cudaDeviceProp properties;
  cuda_check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return properties.name;
}
#else
int device_count() {
  throw std::runtime_error("this build of pyproj2d3d has no CUDA side; put nvcc on PATH and install again");
}

std::string device_name(int) {
  device_count();
  return "";
}
#endif
