#include "driver.hpp"
#include "ops.hpp"

namespace {

/// n of `most`, each once, in no order.
void draw(Random &random, int64_t most, int32_t *to, int64_t n) {
  Array<int32_t, 1> all(most);
  for (int64_t i = 0; i < most; ++i) all[i] = int32_t(i);
  for (int64_t i = most - 1; i > 0; --i) std::swap(all[i], all[random.below(i + 1)]);
  std::copy_n(all.begin(), n, to);
}

/// Pairs of so many offsets by block and offset: in each block every other target, and its last none.
struct Pairs {
  Array<int32_t, 1> source, target;
  Array<int64_t, 1> ptr;

  Pairs(int64_t sources, int64_t targets, int64_t offsets)
      : source(offsets * targets),
        target(offsets * targets),
        ptr(blocks(targets) * offsets + 1) {
    Random random(31);
    ptr[0] = 0;
    for (int64_t block = 0; block < blocks(targets); ++block)
      for (int64_t k = 0; k < offsets; ++k) {
        const int64_t first = block * kConvolveBlock, most = std::min(kConvolveBlock, targets - first);
        const int64_t n = sources ? std::min((most + k) / 2, most - 1) : 0, at = ptr[block * offsets + k];
        draw(random, most, target.begin() + at, n);
        for (int64_t p = at; p < at + n; ++p) target[p] += int32_t(first), source[p] = int32_t(random.below(sources));
        ptr[block * offsets + k + 1] = at + n;
      }
  }
  static int64_t blocks(int64_t targets) { return (targets + kConvolveBlock - 1) / kConvolveBlock; }
  operator BlockPairs() const { return {source, target, ptr}; }
};

template <class T> void run(int64_t sources, int64_t targets, int64_t offsets, int64_t inputs, int64_t outputs) {
  const std::string how = std::to_string(sources) + " to " + std::to_string(targets) + ", " + std::to_string(inputs) +
                          " to " + std::to_string(outputs) + " channels";
  Random random(32);
  const Pairs pairs(sources, targets, offsets);
  const int64_t panel = kConvolvePanel / int64_t(sizeof(T));
  Array<T, 2> rows(sources, inputs), of_outputs(sources, outputs), grad(targets, outputs);
  Array<T, 3> weight(outputs, offsets, inputs), out_weight(outputs, offsets, inputs);
  randomize(rows, random, -2, 2, 50);
  randomize(of_outputs, random, -2, 2, 50);
  randomize(grad, random, -2, 2, 50);
  randomize(weight, random, -2, 2, 50);
  Array<T, 4> packed(offsets, (outputs + panel - 1) / panel, inputs, panel);
  Array<T, 4> packed_turned(offsets, (inputs + panel - 1) / panel, outputs, panel);
  Array<T, 2> out(targets, outputs), out_turned(targets, inputs);
  same_bits("convolve " + how, [&](const Exec &on) { convolve<T>(on, rows, pairs, weight, false, packed, out); }, out);
  same_bits(
      "convolve turned " + how,
      [&](const Exec &on) { convolve<T>(on, of_outputs, pairs, weight, true, packed_turned, out_turned); }, out_turned);
  same_bits(
      "convolve_grad " + how, [&](const Exec &on) { convolve_grad<T>(on, rows, grad, pairs, out_weight); }, out_weight);
}

}  // namespace

void drive_convolve() {
  const int64_t sizes[][5] = {{40, 600, 4, 3, 50}, {600, 40, 1, 33, 20}, {5, 1, 3, 1, 1},
                              {0, 9, 2, 4, 4},     {9, 0, 2, 4, 4},      {0, 0, 1, 2, 2}};
  for (const auto &[sources, targets, offsets, inputs, outputs] : sizes) {
    run<float>(sources, targets, offsets, inputs, outputs);
    run<double>(sources, targets, offsets, inputs, outputs);
  }
}
