#pragma once
// Rows of C channels in pieces of W: a CPU thread takes wide pieces, which become vectors; on CUDA neighbouring
// threads take narrow ones, so that a warp reads a row in one go.

#include "core/for_each.hpp"
#include "core/half.hpp"

constexpr int kCpuLane = 64, kCudaLane = 4;

template <int W> P2D3D_HD int lane_end(int64_t channels, int64_t lane) {
  const int64_t left = channels - lane * W;
  return int(left < W ? left : W);
}

/// Runs F<W> over (rows, pieces of C); `make(width)` builds it, where width is a std::integral_constant.
template <class Make> void for_each_lane(const Exec &on, int64_t rows, int64_t channels, const Make &make) {
  if (on.cuda_functors())
    for_each_as_cuda(on, rows, (channels + kCudaLane - 1) / kCudaLane, make(std::integral_constant<int, kCudaLane>()));
  else for_each_on_cpu(on, rows, (channels + kCpuLane - 1) / kCpuLane, make(std::integral_constant<int, kCpuLane>()));
}
