#include "core/for_each.hpp"
#include "ops.hpp"

namespace {

constexpr int64_t kLowest = -2147483648, kHighest = 2147483647;  // of int32

/// A voxel as a number that orders as (batch, x, y, z) do.
struct Place {
  uint64_t batch_x, y_z;

  P2D3D_HD static uint64_t pair(int32_t a, int32_t b) {
    return uint64_t(uint32_t(a) ^ 0x80000000u) << 32 | (uint32_t(b) ^ 0x80000000u);
  }
  P2D3D_HD Place(int32_t b, int32_t x, int32_t y, int32_t z) : batch_x(pair(b, x)), y_z(pair(y, z)) {}
  P2D3D_HD explicit Place(const int32_t *row) : Place(row[0], row[1], row[2], row[3]) {}
  P2D3D_HD bool operator<(const Place &other) const {
    return (batch_x < other.batch_x) | ((batch_x == other.batch_x) & (y_z < other.y_z));
  }
};

struct ExtentOfBlock {  // `block` voxels
  View<const int32_t, 2> coords;
  int64_t block;
  View<int64_t, 2> extent;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const int64_t n = coords.shape[0], begin = i * block, end = begin + block < n ? begin + block : n;
    int64_t fallen = 0, equal = 0;
    int32_t low[4], high[4];
    for (int d = 0; d < 4; ++d) low[d] = high[d] = coords(begin, d);
    for (int64_t m = begin; m < end; ++m) {
      const int32_t *row = coords.data + 4 * m;
      for (int d = 0; d < 4; ++d)
        low[d] = row[d] < low[d] ? row[d] : low[d], high[d] = row[d] > high[d] ? row[d] : high[d];
      if (m == 0) continue;
      const Place before(row - 4), here(row);
      fallen += here < before;
      equal += !(here < before) & !(before < here);
    }
    extent(i, 0) = fallen, extent(i, 1) = equal;
    for (int d = 0; d < 4; ++d) extent(i, 2 + d) = low[d], extent(i, 6 + d) = high[d];
  }
};

/// The outputs along one axis that an input takes part in, from the last to the first.
struct OutputsAlong {
  int64_t at, stride, dilation, size, shape;

  P2D3D_HD OutputsAlong(const KernelRule &rule, int axis, int32_t input)
      : at(input + rule.padding[axis]),
        stride(rule.stride[axis]),
        dilation(rule.dilation[axis]),
        size(rule.size[axis]),
        shape(rule.shape[axis]) {}
  P2D3D_HD bool has(int64_t k) const {
    const int64_t scaled = at - k * dilation, output = scaled / stride;
    return (output * stride == scaled) & ((shape < 0) | ((output >= 0) & (output < shape)));
  }
  P2D3D_HD int64_t count() const {
    int64_t n = 0;
    for (int64_t k = 0; k < size; ++k) n += has(k);
    return n;
  }
  P2D3D_HD int32_t operator()(int64_t k) const { return int32_t((at - k * dilation) / stride); }
};

struct OutputsOfBlock {  // `block` inputs
  View<const int32_t, 2> coords;
  KernelRule rule;
  int64_t block;
  View<const int64_t, 1> end_of_block;  // null: count
  View<int64_t, 1> count;
  View<int32_t, 2> out;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const int64_t n = coords.shape[0], begin = i * block, end = begin + block < n ? begin + block : n;
    int64_t to = end_of_block && i ? end_of_block(i - 1) : 0;
    for (int64_t m = begin; m < end; ++m) {
      const OutputsAlong x(rule, 0, coords(m, 1)), y(rule, 1, coords(m, 2)), z(rule, 2, coords(m, 3));
      if (!end_of_block) to += x.count() * y.count() * z.count();
      else to = write(coords(m, 0), x, y, z, to);
    }
    if (!end_of_block) count(i) = to;
  }
  P2D3D_HD int64_t write(int32_t batch, const OutputsAlong &x, const OutputsAlong &y, const OutputsAlong &z,
                         int64_t to) const {
    for (int64_t kx = 0; kx < x.size; ++kx) {
      if (!x.has(kx)) continue;
      for (int64_t ky = 0; ky < y.size; ++ky) {
        if (!y.has(ky)) continue;
        for (int64_t kz = 0; kz < z.size; ++kz) {
          if (!z.has(kz)) continue;
          out(to, 0) = batch, out(to, 1) = x(kx), out(to, 2) = y(ky), out(to, 3) = z(kz);
          ++to;
        }
      }
    }
    return to;
  }
};

/// One column of the kernel, along z, over `block` outputs: as many of its slots as there are offsets in `next`.
template <bool kFill> struct PairsOfBlock {
  SortedVoxels in, out;
  KernelRule rule;
  int64_t block;
  KernelPairs pairs;

  P2D3D_HD Place input_at(int64_t s) const { return Place(in.coords.data + 4 * s); }
  P2D3D_HD static int32_t row_of(const SortedVoxels &voxels, int64_t s) {
    return int32_t(voxels.row ? voxels.row(s) : s);
  }
  P2D3D_HD void operator()(int64_t column, int64_t i) const {
    const int64_t begin = i * block, n = out.coords.shape[0], end = begin + block < n ? begin + block : n;
    const int64_t before = column * rule.size[2], left = pairs.next.shape[0] - before;
    const int64_t slots = left < rule.size[2] ? left : rule.size[2];
    int64_t *of_slot = &pairs.next(before, i);  // and on, blocks apart
    int32_t *first = &pairs.first(column, 0);
    if (kFill) fill(begin, end, before, slots, of_slot, first);
    else count(begin, end, column, slots, of_slot, first);
  }

  /// What outputs look for ascends with them, so this walks along the inputs beside them.
  P2D3D_HD void count(int64_t begin, int64_t end, int64_t column, int64_t slots, int64_t *of_slot,
                      int32_t *first) const {
    const int64_t dx = column / rule.size[1] * rule.dilation[0] - rule.padding[0];
    const int64_t dy = column % rule.size[1] * rule.dilation[1] - rule.padding[1];
    const int64_t depth = (slots - 1) * rule.dilation[2];
    for (int64_t slot = 0; slot < slots; ++slot) of_slot[slot * pairs.next.shape[1]] = 0;
    for (int64_t s = begin, at = 0; s < end; ++s) {
      const int32_t *row = out.coords.data + 4 * s;
      const int64_t x = row[1] * rule.stride[0] + dx, y = row[2] * rule.stride[1] + dy;
      const int64_t z = row[3] * rule.stride[2] - rule.padding[2];
      first[s] = -1;
      if ((x < kLowest) | (x > kHighest) | (y < kLowest) | (y > kHighest) | (z > kHighest) | (z + depth < kLowest))
        continue;
      const Place last(row[0], int32_t(x), int32_t(y), int32_t(z + depth < kHighest ? z + depth : kHighest));
      at = first_from(Place(row[0], int32_t(x), int32_t(y), int32_t(z < kLowest ? kLowest : z)), at);
      if (at == in.coords.shape[0]) continue;
      if (last < input_at(at)) continue;
      first[s] = int32_t(at);
      for (int64_t found = at; found < in.coords.shape[0] && !(last < input_at(found)); ++found) {
        const int64_t slot = slot_of(in.coords(found, 3) - z);
        if (slot >= 0) ++of_slot[slot * pairs.next.shape[1]];
      }
    }
  }
  P2D3D_HD void fill(int64_t begin, int64_t end, int64_t before, int64_t slots, int64_t *of_slot,
                     const int32_t *first) const {
    const int64_t depth = (slots - 1) * rule.dilation[2], offsets = pairs.ptr ? pairs.ptr.shape[0] - 1 : 0;
    for (int64_t s = begin; s < end; ++s) {
      if (first[s] < 0) continue;
      const int32_t row = row_of(out, s);
      const int32_t *column = in.coords.data + 4 * first[s];  // batch, x and y of all that it reads
      const int64_t z = out.coords(s, 3) * rule.stride[2] - rule.padding[2];
      for (int64_t found = first[s]; found < in.coords.shape[0]; ++found) {
        const int32_t *there = in.coords.data + 4 * found;
        if ((there[3] > z + depth) | (there[2] != column[2]) | (there[1] != column[1]) | (there[0] != column[0])) break;
        const int64_t slot = slot_of(there[3] - z);
        if (slot < 0) continue;
        const int64_t to = of_slot[slot * pairs.next.shape[1]]++;
        const int32_t read = row_of(in, found);
        pairs.input(to) = read, pairs.output(to) = row;
        if (offsets == 0) continue;
        const int64_t k = before + slot, mirrored = to - pairs.ptr(k) + pairs.ptr(offsets - 1 - k);
        pairs.input(mirrored) = row, pairs.output(mirrored) = read;
      }
    }
  }
  /// -1 between those of a dilated kernel.
  P2D3D_HD int64_t slot_of(int64_t rise) const {
    const int64_t dz = rule.dilation[2];
    if (dz == 1) return rise;
    return rise % dz == 0 ? rise / dz : -1;
  }
  /// The first input that is not below a place, of those from s on: most often s or the next.
  P2D3D_HD int64_t first_from(const Place &place, int64_t s) const {
    const int64_t n = in.coords.shape[0];
    int64_t step = 1, low = s;
    for (; low + step <= n && input_at(low + step - 1) < place; step *= 2) low += step;
    int64_t high = low + step - 1 < n ? low + step - 1 : n;  // it is from low to high
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (input_at(middle) < place) low = middle + 1;
      else high = middle;
    }
    return low;
  }
};

/// A worker's share of the voxels: on CUDA small, so that there are many workers.
int64_t block_size(const Exec &on) { return on.cuda_functors() ? 32 : 4096; }

}  // namespace

int64_t kernel_map_blocks(const Exec &on, int64_t n) { return (n + block_size(on) - 1) / block_size(on); }

void kernel_map_extent(const Exec &on, View<const int32_t, 2> coords, View<int64_t, 2> extent) {
  for_each(on, 1, extent.shape[0], ExtentOfBlock{coords, block_size(on), extent});
}

void kernel_map_outputs(const Exec &on, View<const int32_t, 2> coords, const KernelRule &rule,
                        View<const int64_t, 1> end, View<int64_t, 1> count, View<int32_t, 2> out) {
  const int64_t blocks = end ? end.shape[0] : count.shape[0];
  for_each(on, 1, blocks, OutputsOfBlock{coords, rule, block_size(on), end, count, out});
}

void kernel_map_pairs(const Exec &on, const SortedVoxels &in, const SortedVoxels &out, const KernelRule &rule,
                      const KernelPairs &pairs) {
  const int64_t columns = pairs.first.shape[0], blocks = pairs.next.shape[1], block = block_size(on);
  if (pairs.input) for_each(on, columns, blocks, PairsOfBlock<true>{in, out, rule, block, pairs});
  else for_each(on, columns, blocks, PairsOfBlock<false>{in, out, rule, block, pairs});
}
