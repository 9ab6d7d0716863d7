#include "scene.hpp"

void drive_zbuffer() {
  for_each_geometry([](auto type) {
    using T = decltype(type);
    for (const Size &s : kSizes) {
      const Scene<T> scene(s);
      const Matches matches(scene);
      Array<T, 3> uvz(s.views, s.n, 3);
      project<T>(Exec(), scene.points, scene.camera_from_world, scene.intrinsics, uvz);
      Random random(3);

      const int64_t grids[][2] = {{0, 1}, {1, 1}, {2, 3}, {0, 8}, {50, 1}, {1, 100}};  // radius, stride
      for (const auto &[radius, stride] : grids) {
        const ZbufferGrid grid{s.height, s.width, radius, stride};
        const std::string how = std::string(name_of<T>()) + ", " + text(s) + ", radius " + std::to_string(radius) +
                                ", stride " + std::to_string(stride);
        const int64_t h = (s.height + stride - 1) / stride, w = (s.width + stride - 1) / stride;
        Array<int64_t, 3> index(s.views, h, w);
        index.fill(-1);
        Array<T, 3> depth(s.views, h, w);
        same_bits(
            "zbuffer of matches " + how,
            [&](const Exec &on) { zbuffer<T>(on, uvz, matches.ptr, matches.point, grid, index, depth); }, index, depth);
        same_bits(
            "zbuffer_points " + how,
            [&](const Exec &on) {
              zbuffer_points<T>(on, scene.points, scene.camera_from_world, scene.intrinsics, grid, index, depth);
            },
            index, depth);
        same_bits(
            "zbuffer " + how, [&](const Exec &on) { zbuffer<T>(on, uvz, {}, {}, grid, index, depth); }, index, depth);

        Array<T, 3> grad(s.views, h, w), out(s.views, s.n, 3);
        randomize(grad, random, -1, 1, 100);
        same_bits(
            "zbuffer_grad " + how, [&](const Exec &on) { zbuffer_grad<T>(on, uvz, grid, index, grad, out); }, out);
      }
    }
  });
}
