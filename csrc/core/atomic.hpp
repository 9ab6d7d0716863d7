#pragma once
#include <cstdint>

#include "core/macros.hpp"

// What two workers may do to one element: an integer minimum, or what makes the union-find of cluster.cu, whose sets do
// not depend on who comes first. All relaxed: each element stands for itself.

/// *at = min(*at, value), whatever else runs.
P2D3D_HD void atomic_min(uint64_t *at, uint64_t value) {
#ifdef __CUDA_ARCH__
  if (*at > value) atomicMin(reinterpret_cast<unsigned long long *>(at), static_cast<unsigned long long>(value));
#else
  uint64_t seen = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (seen > value && !__atomic_compare_exchange_n(at, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
#endif
}

/// *at as it is now, though others write it.
P2D3D_HD int64_t atomic_load(const int64_t *at) {
#ifdef __CUDA_ARCH__
  return *static_cast<const volatile int64_t *>(at);
#else
  return __atomic_load_n(at, __ATOMIC_RELAXED);
#endif
}

P2D3D_HD void atomic_store(int64_t *at, int64_t value) {
#ifdef __CUDA_ARCH__
  *static_cast<volatile int64_t *>(at) = value;
#else
  __atomic_store_n(at, value, __ATOMIC_RELAXED);
#endif
}

/// *at = value if it is `expected`; what it was.
P2D3D_HD int64_t atomic_exchange_if(int64_t *at, int64_t expected, int64_t value) {
#ifdef __CUDA_ARCH__
  return int64_t(atomicCAS(reinterpret_cast<unsigned long long *>(at), static_cast<unsigned long long>(expected),
                           static_cast<unsigned long long>(value)));
#else
  __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
#endif
}
