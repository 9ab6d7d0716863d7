#include <array>
#include <vector>

#include "driver.hpp"
#include "ops.hpp"

namespace {

using Row = std::array<int32_t, 4>;

/// Rows in ascending order, all different.
Array<int32_t, 2> sorted_rows(std::vector<Row> rows) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  Array<int32_t, 2> out(int64_t(rows.size()), 4);
  for (size_t i = 0; i < rows.size(); ++i)
    for (int d = 0; d < 4; ++d) out[int64_t(4 * i) + d] = rows[i][size_t(d)];
  return out;
}

/// Of n voxels, close to each other or to the ends of int32.
std::vector<Row> some_voxels(int64_t n, bool far, Random &random) {
  std::vector<Row> rows(static_cast<size_t>(n));
  for (Row &row : rows) {
    row[0] = int32_t(random.below(2));
    for (size_t d = 1; d < 4; ++d) {
      const int64_t near = random.below(12) - 6;
      row[d] = int32_t(!far ? near : near < 0 ? INT32_MIN + near + 6 : INT32_MAX - near);
    }
  }
  return rows;
}

void run(const Array<int32_t, 2> &in, const Array<int32_t, 2> &out, const KernelRule &rule, const std::string &how) {
  Array<int64_t, 1> row(out.shape(0));  // from the last to the first
  for (int64_t i = 0; i < row.size(); ++i) row[i] = row.size() - 1 - i;
  const int64_t offsets = rule.size[0] * rule.size[1] * rule.size[2], n = out.shape(0);
  int64_t pairs = 0;
  const auto starts = [&](const Exec &on) {  // how many blocks there are depends on whose functors run
    Array<int64_t, 2> next(offsets, kernel_map_blocks(on, n));
    next.prepare(0);
    kernel_map_pairs(on, {in, {}}, {out, row}, rule, next, {}, {});
    pairs = 0;
    for (int64_t &of_block : next) of_block = (pairs += of_block) - of_block;
    return next;
  };
  starts(Exec());
  const int64_t found = pairs;
  Array<int32_t, 1> input(found), output(found);
  same_bits(
      "kernel_map_pairs " + how,
      [&](const Exec &on) {
        const Array<int64_t, 2> next = starts(on);
        if (pairs != found) fail("kernel_map_pairs " + how + ": " + std::to_string(pairs) + " pairs");
        if (found) kernel_map_pairs(on, {in, {}}, {out, row}, rule, next, input, output);
      },
      input, output);
}

Array<int32_t, 2> outputs_of(const Array<int32_t, 2> &in, const KernelRule &rule, const std::string &how) {
  Array<int32_t, 2> found;
  const auto count = [&](const Exec &on) {
    Array<int64_t, 1> end(kernel_map_blocks(on, in.shape(0)));
    end.prepare(0);
    kernel_map_outputs(on, in, rule, {}, end, {});
    int64_t sum = 0;
    for (int64_t &of_block : end) of_block = sum += of_block;
    return end;
  };
  const Array<int64_t, 1> end = count(Exec());
  found = Array<int32_t, 2>(end[end.size() - 1], 4);
  same_bits(
      "kernel_map_outputs " + how, [&](const Exec &on) { kernel_map_outputs(on, in, rule, count(on), {}, found); },
      found);
  std::vector<Row> rows(size_t(found.shape(0)));
  for (int64_t i = 0; i < found.size(); ++i) rows[size_t(i / 4)][size_t(i % 4)] = found[i];
  return sorted_rows(rows);
}

}  // namespace

void drive_kernel_map() {
  const KernelRule rules[] = {
      {{3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {-1, -1, -1}},
      {{2, 2, 2}, {2, 2, 2}, {0, 0, 0}, {1, 1, 1}, {-1, -1, -1}},
      {{3, 1, 4}, {1, 2, 3}, {2, 0, 5}, {2, 1, 3}, {9, 3, 0}},
      {{3, 1, 4}, {1, 2, 3}, {2, 0, 5}, {2, 1, 3}, {9, 3, 9}},
  };
  for (const int64_t n : {10000, 33, 32, 1})  // a block has 4096 voxels, 32 for CUDA
    for (const bool far : {false, true}) {
      Random random(23);
      const std::vector<Row> rows = some_voxels(n, far, random);
      const Array<int32_t, 2> in = sorted_rows(rows);
      std::string how = std::to_string(in.shape(0)) + (far ? " far voxels" : " voxels");
      Array<int64_t, 1> summed(10);
      same_bits(
          "kernel_map_extent " + how,
          [&](const Exec &on) {
            Array<int64_t, 2> extent(kernel_map_blocks(on, in.shape(0)), 10);
            extent.prepare(0);
            kernel_map_extent(on, in, extent);
            std::fill(summed.begin(), summed.end(), 0);
            for (int64_t i = 0; i < extent.size(); ++i)
              if (i % 10 < 2) summed[i % 10] += extent[i];
          },
          summed);
      for (const KernelRule &rule : rules) {
        run(in, in, rule, how + " to themselves");
        if (!far || rule.shape[0] >= 0) run(in, outputs_of(in, rule, how), rule, how + " to their outputs");
      }
      run(in, Array<int32_t, 2>(0, 4), rules[0], how + " to none");
    }
}
