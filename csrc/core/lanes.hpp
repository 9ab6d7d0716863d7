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

constexpr int64_t kAhead = 8;  // rows in no order are asked for so many before they are needed

/// Asks for one piece of row n.
template <int W, class F> P2D3D_HD void prefetch_lane(const F *rows, int64_t channels, int64_t n, int64_t lane) {
  const char *piece = reinterpret_cast<const char *>(rows + n * channels + lane * W);
  const int64_t bytes = lane_end<W>(channels, lane) * int64_t(sizeof(F));
  for (int64_t b = 0; b < bytes; b += 64) P2D3D_PREFETCH(piece + b);
}

/// Runs F<W> over (rows, pieces of C); `make(width)` builds it, where width is a std::integral_constant.
template <class Make> void for_each_lane(const Exec &on, int64_t rows, int64_t channels, const Make &make) {
  if (on.cuda_functors())
    for_each_as_cuda(on, rows, (channels + kCudaLane - 1) / kCudaLane, make(std::integral_constant<int, kCudaLane>()));
  else for_each_on_cpu(on, rows, (channels + kCpuLane - 1) / kCpuLane, make(std::integral_constant<int, kCpuLane>()));
}
