#include <numeric>

#include "driver.hpp"
#include "ops.hpp"

namespace {

/// Points in voxels of one to many, and some in none: these come last in `order`.
struct Voxels {
  Array<int64_t, 1> order, ptr, inverse;

  Voxels(int64_t n, int64_t voxels) : order(n), ptr(voxels + 1), inverse(n) {
    Random random(15);
    for (int64_t i = 0; i < n; ++i)
      inverse[i] = i < voxels ? i : random.below(3) ? voxels - 1 : random.below(voxels + 1) - 1;
    std::iota(order.begin(), order.end(), int64_t(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return uint64_t(inverse[a]) < uint64_t(inverse[b]); });
    for (int64_t m = 0, i = 0; m <= voxels; ptr[m++] = i)
      while (i < n && uint64_t(inverse[order[i]]) < uint64_t(m)) ++i;
  }
};

template <class F> void run(const Voxels &voxels, int64_t channels, const std::string &how) {
  const int64_t n = voxels.order.size(), m = voxels.ptr.size() - 1;
  const Segments segments{voxels.order, voxels.ptr};
  Random random(16);
  Array<F, 2> rows(n, channels), grad(m, channels), out(m, channels), out_grad(n, channels);
  randomize(rows, random, -2, 2, 50);
  randomize(grad, random, -2, 2, 50);
  Array<int64_t, 2> arg(m, channels);
  for (const bool flag : {false, true}) {
    same_bits("scatter_sum " + how, [&](const Exec &on) { scatter_sum<F>(on, rows, segments, flag, out); }, out);
    same_bits(
        "scatter_extreme " + how, [&](const Exec &on) { scatter_extreme<F>(on, rows, segments, flag, out, {}); }, out);
    same_bits(
        "scatter_extreme with arg " + how,
        [&](const Exec &on) { scatter_extreme<F>(on, rows, segments, flag, out, arg); }, out, arg);
    same_bits(
        "scatter_grad " + how,
        [&](const Exec &on) { scatter_grad<F>(on, grad, voxels.inverse, voxels.ptr, flag, {}, out_grad); }, out_grad);
  }
  same_bits(
      "scatter_grad with arg " + how,
      [&](const Exec &on) { scatter_grad<F>(on, grad, voxels.inverse, voxels.ptr, false, arg, out_grad); }, out_grad);
}

template <class F> void run_add(int64_t p, int64_t m, int64_t channels, const std::string &how) {
  Random random(24);
  Array<F, 2> rows(p, channels);
  randomize(rows, random, -2, 2, 50);
  Array<int32_t, 1> row(p);  // p of m, each once, in no order
  for (int64_t i = 0; i < p; ++i) row[i] = int32_t(m - 1 - i);
  for (int64_t i = p - 1; i > 0; --i) std::swap(row[i], row[random.below(i + 1)]);
  Array<acc_t<F>, 2> out(m, channels);
  out.fill(acc_t<F>(0.5));
  same_bits("add_rows " + how, [&](const Exec &on) { add_rows<F>(on, rows, row, out); }, out);
}

void run_mode(const Voxels &voxels, const std::string &how) {
  Random random(17);
  Array<int64_t, 1> labels(voxels.order.size()), scratch(labels.size()), out(voxels.ptr.size() - 1);
  const int64_t odd[] = {INT64_MIN, -1, INT64_MAX, 0};
  for (int64_t &label : labels) label = random.below(3) ? random.below(20) : odd[random.below(4)];
  same_bits(
      "scatter_mode " + how,
      [&](const Exec &on) { scatter_mode(on, labels, {voxels.order, voxels.ptr}, scratch, out); }, out);
}

}  // namespace

void drive_scatter() {
  const int64_t sizes[][2] = {{600, 50}, {700, 1}, {40, 40}, {1, 1}, {20, 0}, {0, 0}};  // points, voxels
  for (const auto &[n, m] : sizes) {
    const Voxels voxels(n, m);
    const std::string how = std::to_string(n) + " points in " + std::to_string(m) + " voxels";
    run_mode(voxels, how);
    for_each_feature([&](auto type) {
      using F = decltype(type);
      for (const int64_t channels : {66, 4, 1, 0})
        run<F>(voxels, channels, std::string(name_of<F>()) + " x " + std::to_string(channels) + ", " + how);
      for (const int64_t channels : {66, 4, 1, 0})
        run_add<F>(m, n + 3, channels, std::string(name_of<F>()) + " x " + std::to_string(channels) + ", " + how);
    });
  }
}
