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
      const int64_t near = random.below(24) - 12;
      row[d] = int32_t(!far ? near : near < 0 ? INT32_MIN + near + 12 : INT32_MAX - near);
    }
  }
  return rows;
}

void run(const Array<int32_t, 2> &in, const Array<int32_t, 2> &out, const KernelRule &rule, bool mirrored,
         const std::string &how) {
  Array<int64_t, 1> row(out.shape(0));  // from the last to the first
  for (int64_t i = 0; i < row.size(); ++i) row[i] = row.size() - 1 - i;
  const int64_t all = rule.size[0] * rule.size[1] * rule.size[2], some = mirrored ? all / 2 : all;
  const SortedVoxels inputs{in, mirrored ? View<const int64_t, 1>(row) : View<const int64_t, 1>()}, outputs{out, row};
  Array<int32_t, 2> first((some + rule.size[2] - 1) / rule.size[2], out.shape(0));
  Array<int64_t, 1> ptr(all + 1);
  const auto starts = [&](const Exec &on) {  // how many blocks there are depends on whose functors run
    Array<int64_t, 2> next(some, kernel_map_blocks(on, out.shape(0)));
    next.prepare(0);
    kernel_map_pairs(on, inputs, outputs, rule, {next, first, {}, {}, {}});
    std::fill(ptr.begin(), ptr.end(), 0);
    int64_t pairs = 0;
    for (int64_t i = 0; i < next.size(); ++i) {
      if (i % next.shape(1) == 0) ptr[i / next.shape(1)] = pairs;
      next[i] = (pairs += next[i]) - next[i];
    }
    ptr[some] = pairs;
    for (int64_t k = 0; k <= some && mirrored; ++k) ptr[all - k] = 2 * pairs + out.shape(0) - ptr[k];
    return next;
  };
  same_bits("kernel_map_pairs, counted, " + how, starts, first, ptr);
  Array<int32_t, 1> input(ptr[all]), output(ptr[all]);
  input.fill(-1), output.fill(-1);  // the centre is not written
  const View<const int64_t, 1> opposite = mirrored ? View<const int64_t, 1>(ptr) : View<const int64_t, 1>();
  same_bits(
      "kernel_map_pairs " + how,
      [&](const Exec &on) {
        const Array<int64_t, 2> next = starts(on);
        if (input.size()) kernel_map_pairs(on, inputs, outputs, rule, {next, first, opposite, input, output});
      },
      input, output);
  for (int64_t i = 0; i < input.size(); ++i)
    if ((input[i] < 0) != (mirrored && i >= ptr[some] && i < ptr[some + 1]))
      fail("kernel_map_pairs " + how + ": pair " + std::to_string(i) + " is not as it should be");
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
      {{1, 3, 5}, {1, 1, 1}, {0, 2, 6}, {1, 2, 3}, {-1, -1, -1}},
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
        run(in, in, rule, false, how + " to themselves");
        if (!far || rule.shape[0] >= 0) run(in, outputs_of(in, rule, how), rule, false, how + " to their outputs");
      }
      run(in, in, rules[0], true, how + ", mirrored");
      run(in, in, rules[4], true, how + ", mirrored, dilated");
      run(in, Array<int32_t, 2>(0, 4), rules[0], false, how + " to none");
    }
}
