#include <numeric>

#include "maps.hpp"

namespace {

/// Forward and all gradients at `rows` places.
template <class F, class U>
void run(const Array<F, 4> &maps, const Places<U> &places, const Reading &r, const MapRule &rule,
         const RowGrad<F> &grad, int64_t rows, const std::string &how) {
  using A = acc_t<F>;
  Array<F, 2> out(rows, r.channels);
  Array<A, 1> norm(r.normalize ? rows : 0), pull(r.normalize ? rows : 0), scale(rows);
  Array<A, 2> weight(rows, 4);
  same_bits("sample " + how, [&](const Exec &on) { sample<F, U>(on, maps, places, rule, norm, out); }, norm, out);

  Array<int64_t, 1> cell(rows);
  same_bits(
      "sample_prepare " + how,
      [&](const Exec &on) { sample_prepare<F, U>(on, maps, places, rule, grad, cell, weight, scale, pull); }, cell,
      weight, scale, pull);

  const int64_t cells = maps.shape(0) * r.h * r.w;
  Array<int64_t, 1> order(rows), start(cells + 1);
  std::iota(order.begin(), order.end(), int64_t(0));
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return cell[a] < cell[b]; });
  for (int64_t c = 0, i = 0; c <= cells; start[c++] = i)
    while (i < rows && cell[order[i]] < c) ++i;
  Array<F, 4> grad_maps(maps.shape(0), r.h, r.w, r.channels);
  Array<A, 3> partial(maps.shape(0) * r.h, 2, r.w * r.channels);
  for (const bool crowded : {false, rule.bilinear})
    same_bits(
        "sample_grad_maps " + how,
        [&](const Exec &on) {
          sample_grad_maps<F>(on, maps, rule.bilinear, grad, weight, scale, pull, order, start,
                              crowded ? View<A, 3>(partial) : View<A, 3>(), grad_maps);
        },
        grad_maps);

  Array<U, 3> grad_uv(places.uv.shape[0], places.uv.shape[1], 2);
  same_bits(
      "sample_grad_uv " + how,
      [&](const Exec &on) { sample_grad_uv<F, U>(on, maps, places, rule, grad, scale, pull, grad_uv); }, grad_uv);
}

/// Pixels within the image, beyond it, and on its very border.
template <class U> Array<U, 3> random_uv(const Size &s) {
  Random random(6);
  Array<U, 3> uv(s.views, s.n, 2);
  randomize(uv, random, -1, double(std::max(s.width, s.height)), 20);
  const double w = double(s.width), h = double(s.height),
               edges[][2] = {{-0.5, -0.5}, {w - 0.5, 0}, {0, h - 0.5}, {w - 1, h - 1}};
  for (int64_t i = 0; i + 1 < uv.size(); i += 8)
    for (int j = 0; j < 2; ++j) uv[i + j] = U(edges[random.below(4)][j]);
  return uv;
}

template <class F> void at_matches(const Size &s, const Reading &r, const std::string &how) {
  using A = acc_t<F>;
  const Matches matches((Scene<float>(s)));
  const Array<F, 4> maps = random_maps<F>(s, r);
  const int64_t rows = matches.point.size();
  const Places<A> places{{}, matches.ptr, matches.pixel, {}};
  Random random(8);
  Array<F, 2> of_rows(rows, r.channels), of_points(s.n, r.channels);
  randomize(of_rows, random, -1, 1, 100);
  randomize(of_points, random, -1, 1, 100);
  Array<int32_t, 1> count(s.n);
  std::fill(count.begin(), count.end(), 0);
  for (int32_t n : matches.point) ++count[n];
  Array<int32_t, 2> arg(s.n, r.channels);
  for (int32_t &view : arg) view = int32_t(random.below(s.views + 1) - 1);

  run<F, A>(maps, places, r, r.rule(s), {of_rows, {}, {}, {}}, rows, how + ", at matches");
  run<F, A>(maps, places, r, r.rule(s), {of_points, matches.point, count, {}}, rows, how + ", mean over views");
  run<F, A>(maps, places, r, r.rule(s), {of_points, matches.point, {}, arg}, rows, how + ", maximum over views");

  Array<int64_t, 1> flat(s.views > 0 ? 4 * s.n : 0);  // in any order; in a map of one cell more than a block
  for (int64_t &at : flat) at = random.below(s.views * s.height * s.width);
  Array<F, 2> of_flat(flat.size(), r.channels);
  randomize(of_flat, random, -1, 1, 100);
  run<F, A>(maps, {{}, {}, {}, flat}, r, r.rule(s), {of_flat, {}, {}, {}}, flat.size(), how + ", at flat pixels");
}

template <class F, class U> void at_uv(const Size &s, const Reading &r, const std::string &how) {
  const Array<U, 3> uv = random_uv<U>(s);
  Random random(9);
  Array<F, 2> grad(s.views * s.n, r.channels);
  randomize(grad, random, -1, 1, 100);
  run<F, U>(random_maps<F>(s, r), {uv, {}, {}, {}}, r, r.rule(s), {grad, {}, {}, {}}, s.views * s.n,
            how + ", at " + name_of<U>() + " pixels");
}

}  // namespace

void drive_sample() {
  for_each_reading([](auto type, const Size &s, const Reading &r, const std::string &how) {
    using F = decltype(type);
    at_matches<F>(s, r, how);
    for_each_geometry([&](auto pixel) { at_uv<F, decltype(pixel)>(s, r, how); });
  });
}
