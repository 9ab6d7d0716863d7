#pragma once
#include <cstdint>

#include "core/macros.hpp"

/// A dense row-major array of N axes that somebody else owns, on either device. Null where an
/// optional array was not given.
template <class T, int N> struct View {
  T *__restrict__ data = nullptr;
  int64_t shape[N] = {};

  P2D3D_HD explicit operator bool() const { return data != nullptr; }

  P2D3D_HD int64_t size() const {
    int64_t n = 1;
    for (int d = 0; d < N; ++d) n *= shape[d];
    return n;
  }
  P2D3D_HD T &operator()(int64_t i) const {
    static_assert(N == 1);
    return data[i];
  }
  P2D3D_HD T &operator()(int64_t i, int64_t j) const {
    static_assert(N == 2);
    return data[i * shape[1] + j];
  }
  P2D3D_HD T &operator()(int64_t i, int64_t j, int64_t k) const {
    static_assert(N == 3);
    return data[(i * shape[1] + j) * shape[2] + k];
  }
};
