#include "scene.hpp"

namespace {

/// Both passes; D is the type of the depth. Returns how many matches there are.
template <class T, class D>
int64_t run(const Scene<T> &scene, const Array<D, 2> &depth, const SeenRule &rule, const std::string &how) {
  const Size &s = scene.size;
  const int64_t tiles = (s.n + kTile - 1) / kTile;
  Array<uint32_t, 3> bits(s.views, tiles, kTile / 32);
  Array<int64_t, 2> count(s.views, tiles);
  same_bits(
      "visibility_test " + how,
      [&](const Exec &on) {
        visibility_test<T, D>(on, scene.points, scene.camera_from_world, scene.intrinsics, depth, rule, bits, count);
      },
      bits, count);

  int64_t found = 0;
  for (int64_t &end : count) end = found += end;
  Array<int32_t, 1> point(found), pixel(found);
  same_bits(
      "visibility_fill " + how,
      [&](const Exec &on) {
        visibility_fill<T>(on, scene.points, scene.camera_from_world, scene.intrinsics, rule, bits, count, point,
                           pixel);
      },
      point, pixel);
  return found;
}

}  // namespace

void drive_visibility() {
  for_each_geometry([](auto type) {
    using T = decltype(type);
    for (const Size &s : kSizes) {
      const Scene<T> scene(s);
      const std::string how = std::string(name_of<T>()) + ", " + text(s);
      Random random(2);
      Array<T, 2> metres(s.views, s.height * s.width);
      randomize(metres, random, 1, 3, 10);
      Array<uint16_t, 2> millimetres(s.views, s.height * s.width);
      for (uint16_t &d : millimetres) d = uint16_t(random.below(5) ? 1000 + random.below(2000) : -random.below(2));

      const SeenRule all{s.height, s.width, 0, 0.01, INFINITY, 1000, 0.3, 0, 0};
      const SeenRule some{s.height, s.width, 2, 0.5, 3, 1000, 0.3, 0.1, 0.01};
      const SeenRule no_pixel{s.height, s.width, 50, 0.01, INFINITY, 1, 0.3, 0, 0};  // all of it is border
      const int64_t found = run<T, T>(scene, {}, all, how);
      if (&s == kSizes && found < s.n) fail("visibility " + how + ": too few points are seen to try much");
      for (const SeenRule &rule : {all, some, no_pixel}) {
        run<T, T>(scene, {}, rule, how + ", no depth");
        run<T, T>(scene, metres, rule, how + ", metres");
        run<T, uint16_t>(scene, millimetres, rule, how + ", uint16");
      }
    }
  });
}
