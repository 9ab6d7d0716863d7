#pragma once
// What the drivers look at: cameras, and points with everything odd among them.

#include "driver.hpp"
#include "ops.hpp"

struct Size {
  int64_t n, views, height, width;
};

/// Two tiles of points, nothing to do, and images of one pixel, row or column.
const Size kSizes[] = {{300, 3, 24, 32}, {0, 3, 24, 32}, {50, 0, 24, 32}, {0, 0, 4, 4},
                       {1, 1, 1, 1},     {60, 2, 1, 40}, {60, 2, 40, 1}};

inline std::string text(const Size &s) {
  return std::to_string(s.n) + " points, " + std::to_string(s.views) + " views of " + std::to_string(s.height) + " x " +
         std::to_string(s.width);
}

/// Views of a cloud. Some points are behind the cameras, in one, not finite, or exactly between two pixels.
template <class T> struct Scene {
  Size size;
  Array<T, 2> points;
  Array<T, 3> world_from_camera;  // (V, 4, 4)
  Array<T, 3> camera_from_world;  // (V, 3, 4)
  Array<T, 2> intrinsics;

  explicit Scene(const Size &s)
      : size(s),
        points(s.n, 3),
        world_from_camera(s.views, 4, 4),
        camera_from_world(s.views, 3, 4),
        intrinsics(s.views, 4) {
    Random random(7);
    const double focal = 16, cx = double(s.width - 1) / 2, cy = double(s.height - 1) / 2;
    for (int64_t v = 0; v < s.views; ++v) {
      const double angle = 0.3 * double(v), c = std::cos(angle), z = std::sin(angle);
      const double pose[16] = {c, 0, z, 0.1 * double(v), 0, 1, 0, 0, -z, 0, c, -0.05 * double(v), 0, 0, 0, 1};
      const double k[4] = {v == 1 ? -focal : focal, focal, cx, cy};  // view 1 is flipped
      std::copy_n(pose, 16, world_from_camera.begin() + 16 * v);
      std::copy_n(k, 4, intrinsics.begin() + 4 * v);
    }
    Array<double, 3> inverse(s.views, 3, 4);
    ::camera_from_world<T>(Exec(), world_from_camera, inverse);
    std::copy(inverse.begin(), inverse.end(), camera_from_world.begin());

    randomize(points, random, -1.5, 1.5, 60);
    const double w = double(s.width), h = double(s.height);
    const double edge_u[] = {-0.5, 0.5, w - 0.5, w - 1.5, std::nextafter(-0.5, -1)};
    const double edge_v[] = {-0.5, 0.5, h - 0.5, h - 1.5, std::nextafter(h - 0.5, h)};
    for (int64_t i = 0; i < s.n; ++i) {
      T *p = points.begin() + 3 * i;
      if (i % 32 == 1) {
        std::fill_n(p, 3, T(0));  // where camera 0 is
      } else if (i % 4 == 0) {
        p[0] = T((edge_u[random.below(5)] - cx) / focal);
        p[1] = T((edge_v[random.below(5)] - cy) / focal);
        p[2] = T(1);
      } else if (i % 4 != 1) {
        p[2] += T(2);  // before the cameras
      }
    }
    for (int64_t v = s.views - 1, i = s.n - 1; v >= 0 && i >= 0; --v, --i) {  // the last points at the last pixels
      const T *r = world_from_camera.begin() + 16 * v;
      const double z = 2, x = (w - 1 - cx) / double(intrinsics[4 * v]) * z, y = (h - 1 - cy) / focal * z;
      for (int j = 0; j < 3; ++j)
        points[3 * i + j] = T(r[4 * j] * x + r[4 * j + 1] * y + r[4 * j + 2] * z + r[4 * j + 3]);
    }
  }
};

/// The points in each frame.
struct Matches {
  Array<int64_t, 1> ptr;
  Array<int32_t, 1> point, pixel;

  template <class T> explicit Matches(const Scene<T> &scene) {
    const Size &s = scene.size;
    const int64_t tiles = (s.n + kTile - 1) / kTile;
    const SeenRule rule{s.height, s.width, 0, 0.01, INFINITY, 1, 0, 0, 0};
    Array<uint32_t, 3> bits(s.views, tiles, kTile / 32);
    Array<int64_t, 2> end(s.views, tiles);
    visibility_test<T, T>(Exec(), scene.points, scene.camera_from_world, scene.intrinsics, {}, rule, bits, end);
    ptr = Array<int64_t, 1>(s.views + 1);
    int64_t found = 0;
    for (int64_t v = 0; v < s.views; ++v) {
      ptr[v] = found;
      for (int64_t t = 0; t < tiles; ++t) end[v * tiles + t] = found += end[v * tiles + t];
    }
    ptr[s.views] = found;
    point = Array<int32_t, 1>(found);
    pixel = Array<int32_t, 1>(found);
    visibility_fill<T>(Exec(), scene.points, scene.camera_from_world, scene.intrinsics, rule, bits, end, point, pixel);
  }
};
