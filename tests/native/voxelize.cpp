#include <limits>
#include <utility>

#include "driver.hpp"
#include "ops.hpp"

namespace {

/// The lowest cell and the cells along each axis. How many blocks there are depends on whose functors run.
template <class T>
Array<int64_t, 1> extent_of(const VoxelGrid<T> &grid, const Array<int64_t, 1> &batches, const std::string &how) {
  Array<T, 1> box(6);
  same_bits(
      "voxelize_box " + how,
      [&](const Exec &on) {
        Array<T, 2> of_blocks(voxelize_blocks(on, grid.points.shape[0]), 6);
        of_blocks.prepare(0);
        voxelize_box<T>(on, grid, of_blocks);
        std::fill(box.begin(), box.end(), std::numeric_limits<T>::infinity());
        for (int64_t i = 0; i < of_blocks.size(); ++i) box[i % 6] = std::min(box[i % 6], of_blocks[i]);
      },
      box);
  Array<int64_t, 1> extent(8);
  same_bits(
      "voxelize_extent " + how, [&](const Exec &on) { voxelize_extent<T>(on, grid, box, batches, extent); }, extent);
  return extent;
}

template <class T, class K>
void run(const VoxelGrid<T> &grid, const Array<int64_t, 1> &extent, const std::string &how) {
  const int64_t n = grid.points.shape[0];
  Array<K, 1> key(n), sorted(n);
  for (int axis = 3; axis >= -1; --axis)
    same_bits(
        "voxelize_keys " + how + ", axis " + std::to_string(axis),
        [&](const Exec &on) { voxelize_keys<T, K>(on, grid, extent, axis, key); }, key);
  Array<int64_t, 1> scratch(4 * n), order(n), valid(1);
  sort_keys<K>(Exec(), key, 8 * sizeof(K) - 1, scratch, sorted, order);
  int64_t cells = 1, voxels = 0;
  for (int d = 4; d < 8; ++d) cells *= extent[d];
  valid[0] = std::lower_bound(sorted.begin(), sorted.end(), K(cells)) - sorted.begin();
  for (int64_t i = 0; i < valid[0]; ++i) voxels += i == 0 || sorted[i] != sorted[i - 1];

  Array<int32_t, 2> coords(voxels, 4);
  Array<int64_t, 1> inverse(n), ptr(voxels + 1);
  same_bits(
      "voxelize_count and voxelize_fill " + how,
      [&](const Exec &on) {
        Array<int64_t, 1> end(voxelize_blocks(on, n));
        end.prepare(0);
        voxelize_count<K>(on, sorted, valid, end);
        int64_t found = 0;
        for (int64_t &e : end) e = found += e;
        if (found != voxels) fail("voxelize_count " + how + ": " + std::to_string(found) + " voxels");
        voxelize_fill<T, K>(on, grid, sorted, order, valid, end, coords, inverse, ptr);
      },
      coords, inverse, ptr);
}

}  // namespace

void drive_voxelize() {
  for_each_geometry([](auto type) {
    using T = decltype(type);
    for (const int64_t n : {10000, 65, 64, 1}) {  // a block has 4096 points, 64 for CUDA
      const std::string how = std::string(name_of<T>()) + ", " + std::to_string(n) + " points";
      Random random(14);
      Array<T, 2> points(n, 3);
      randomize(points, random, -3, 3, 40);
      for (T &x : points) {
        if (random.below(3) == 0) x = std::floor(x * 4) / 4;  // on a face
        if (std::abs(x) > T(1e6)) x = T(INFINITY);            // beyond int32: below
      }
      Array<T, 1> origin(3);
      std::fill(origin.begin(), origin.end(), T(0.125));
      Array<int64_t, 1> batch(n), batches(2);
      for (int64_t &b : batch) b = random.below(3) + kLastBatch - 2;
      batches[0] = kLastBatch - 2, batches[1] = kLastBatch;

      const VoxelGrid<T> coarse{points, batch, origin, {0.25, 0.5, 0.25}}, fine{points, {}, origin, {1e-4, 1e-4, 1e-4}};
      const Array<int64_t, 1> extent = extent_of(coarse, batches, how);
      run<T, int32_t>(coarse, extent, how);
      run<T, int64_t>(coarse, extent, how);
      run<T, int64_t>(fine, extent_of(fine, {}, how), how + ", no batch");

      // What Python refuses when it sees the extent, which nothing may overflow in before.
      for (const auto &[low, high] : {std::pair(int64_t(0), INT64_MAX), std::pair(INT64_MIN, INT64_MAX)}) {
        batches[0] = low, batches[1] = high;
        extent_of(coarse, batches, how + ", batches that cannot be");
      }
      randomize(points, random, -3e38, 3e38, 4);
      extent_of(fine, {}, how + ", points beyond int32");
      std::fill(points.begin(), points.end(), T(NAN));
      run<T, int64_t>(fine, extent_of(fine, {}, how), how + ", no finite point");
    }
  });
}
