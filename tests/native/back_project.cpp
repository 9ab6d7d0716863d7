#include "scene.hpp"

namespace {

/// All valid pixels lifted, then chosen ones, some of them twice; D is the type of the depth.
template <class T, class D> void run(const Scene<T> &scene, const Array<D, 3> &depth, const std::string &how) {
  const Size &s = scene.size;
  const int64_t size = s.height * s.width, tiles = (size + kTile - 1) / kTile;
  const DepthImages<T, D> images{depth, scene.camera_from_world, scene.intrinsics, 1000};
  Array<int64_t, 2> count(s.views, tiles);
  same_bits("back_project_count " + how, [&](const Exec &on) { back_project_count<T, D>(on, images, count); }, count);

  int64_t found = 0;
  for (int64_t &end : count) end = found += end;
  if (depth.size() > 1000 && found < 1000) fail("back_project " + how + ": too few pixels are valid to try much");
  Array<T, 2> points(found, 3);
  Array<int32_t, 1> pixel(found);
  same_bits(
      "back_project_fill " + how, [&](const Exec &on) { back_project_fill<T, D>(on, images, count, points, pixel); },
      points, pixel);

  Random random(11);
  Array<int64_t, 1> flat(s.views * size), row(s.views * size), ptr(s.views + 1);
  for (int64_t &at : flat) at = random.below(s.views * size);
  std::fill_n(flat.begin(), std::min<int64_t>(flat.size(), 300), flat.size() / 2);  // more than a block
  for (int64_t &at : row) at = random.below(flat.size());
  Array<T, 2> chosen(flat.size(), 3);
  Array<int32_t, 1> chosen_pixel(flat.size());
  Array<uint8_t, 1> valid(flat.size());
  same_bits(
      "back_project_pixels " + how,
      [&](const Exec &on) { back_project_pixels<T, D>(on, images, flat, chosen, chosen_pixel, valid); }, chosen,
      chosen_pixel, valid);

  std::sort(flat.begin(), flat.end());
  int64_t longest = 0;
  for (int64_t v = 0, i = 0; v <= s.views; ++v) {
    while (i < flat.size() && flat[i] < v * size) ++i;
    ptr[v] = i;
    if (v > 0) longest = std::max(longest, ptr[v] - ptr[v - 1]);
  }
  Array<T, 2> grad(flat.size(), 3), out_camera(s.views, 16);
  randomize(grad, random, -1, 1, 100);
  Array<T, 3> out_depth;
  if (std::is_same_v<T, D>) out_depth = Array<T, 3>(s.views, s.height, s.width), out_depth.fill(0);
  Array<double, 3> partial(s.views, (longest + kGradBlock - 1) / kGradBlock, 16);
  for (const bool permuted : {false, true}) {
    const View<const int64_t, 1> rows = permuted ? View<const int64_t, 1>(row) : View<const int64_t, 1>();
    same_bits(
        "back_project_grad " + how,
        [&](const Exec &on) {
          back_project_grad<T, D>(on, images, flat, rows, ptr, grad, out_depth, partial, out_camera);
        },
        out_depth, partial, out_camera);
  }
}

}  // namespace

void drive_back_project() {
  const Size sizes[] = {{0, 2, 40, 40}, {0, 2, 16, 16}, {0, 0, 4, 4}, {0, 3, 1, 1}, {0, 2, 1, 300}, {0, 2, 300, 1}};
  for_each_geometry([&](auto type) {
    using T = decltype(type);
    for (const Size &s : sizes) {
      const Scene<T> scene(s);
      const std::string how = std::string(name_of<T>()) + ", " + text(s);
      Random random(12);
      Array<T, 3> metres(s.views, s.height, s.width);
      randomize(metres, random, 0.5, 3, 10);
      Array<uint16_t, 3> millimetres(s.views, s.height, s.width);
      for (uint16_t &d : millimetres) d = uint16_t(random.below(5) ? 500 + random.below(2500) : -random.below(2));
      run<T, T>(scene, metres, how + ", metres");
      run<T, uint16_t>(scene, millimetres, how + ", uint16");
      std::fill(millimetres.begin(), millimetres.begin() + millimetres.size() / 2, uint16_t(65535));
      run<T, uint16_t>(scene, millimetres, how + ", half of them blind");
    }
  });
}
