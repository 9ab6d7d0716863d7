#pragma once
#include "core/for_each.hpp"
#include "core/view.hpp"

template <class T> struct SumBlocks {  // one of the numbers of one view
  View<const double, 3> partial;
  View<T, 2> out;

  P2D3D_HD void operator()(int64_t view, int64_t j) const {
    double sum = 0;
    for (int64_t block = 0; block < partial.shape[1]; ++block) sum += partial(view, block, j);
    out(view, j) = T(sum);
  }
};

/// partial (V, blocks, J) to out (V, J): sums of blocks in order, so that they do not depend on who made which.
template <class T> void sum_blocks(const Exec &on, View<double, 3> partial, View<T, 2> out) {
  const View<const double, 3> sums{partial.data, {partial.shape[0], partial.shape[1], partial.shape[2]}};
  for_each(on, out.shape[0], out.shape[1], SumBlocks<T>{sums, out});
}
