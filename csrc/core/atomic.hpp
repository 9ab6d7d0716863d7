#pragma once
#include <cstdint>

#include "core/macros.hpp"

/// *at = min(*at, value), whatever else runs: the one way in which two workers may write one element.
P2D3D_HD void atomic_min(uint64_t *at, uint64_t value) {
#ifdef __CUDA_ARCH__
  if (*at > value) atomicMin(reinterpret_cast<unsigned long long *>(at), static_cast<unsigned long long>(value));
#else
  uint64_t seen = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (seen > value && !__atomic_compare_exchange_n(at, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
#endif
}
