#pragma once
// The one written arithmetic of projection: every operation that needs a pixel gets it from here, in this order of
// operations, so that integers are equal to the bit everywhere.

#include <cstdint>

#include "core/view.hpp"

template <class T> struct Uvz {
  T u, v, z;  // pixels, pixels, metres
};

/// One view: camera_from_world (3, 4) and the intrinsics fx, fy, cx, cy.
template <class T> struct Pinhole {
  T r[12], k[4];

  P2D3D_HD Pinhole(const View<const T, 3> &camera_from_world, const View<const T, 2> &intrinsics, int64_t view) {
    for (int i = 0; i < 12; ++i) r[i] = camera_from_world.data[view * 12 + i];
    for (int i = 0; i < 4; ++i) k[i] = intrinsics.data[view * 4 + i];
  }
  P2D3D_HD T along(int row, T x, T y, T z) const {
    return ((r[4 * row] * x + r[4 * row + 1] * y) + r[4 * row + 2] * z) + r[4 * row + 3];
  }
  P2D3D_HD Uvz<T> project(const T *p) const {
    const T x = along(0, p[0], p[1], p[2]), y = along(1, p[0], p[1], p[2]), z = along(2, p[0], p[1], p[2]);
    return {k[0] * (x / z) + k[2], k[1] * (y / z) + k[3], z};
  }
};

/// The way back: one view's world_from_camera (V, 3, 4) and intrinsics. A pixel and a depth make a point.
template <class T> struct Lifter {
  Pinhole<T> camera;  // its rows are those of world_from_camera

  P2D3D_HD Lifter(const View<const T, 3> &world_from_camera, const View<const T, 2> &intrinsics, int64_t view)
      : camera(world_from_camera, intrinsics, view) {}

  P2D3D_HD T ray_x(T u) const { return (u - camera.k[2]) / camera.k[0]; }
  P2D3D_HD T ray_y(T v) const { return (v - camera.k[3]) / camera.k[1]; }
  P2D3D_HD void lift(T u, T v, T z, T *p) const {
    const T x = ray_x(u) * z, y = ray_y(v) * z;
    for (int row = 0; row < 3; ++row) p[row] = camera.along(row, x, y, z);
  }
};

/// The frame of an image, less a border.
struct Frame {
  int64_t height, width, border;

  /// The nearest pixel v W + u of (u, v), or -1 where it is not in the frame. Compared as floats before any cast:
  /// floor(t) >= b is t >= b, and floor(t) < W - b is t < W - b, for whole numbers b and W.
  template <class T> P2D3D_HD int32_t pixel(T u, T v) const {
    const T tu = u + T(0.5), tv = v + T(0.5);
    const bool inside = (tu >= T(border)) & (tu < T(width - border)) & (tv >= T(border)) & (tv < T(height - border));
    const T safe_u = inside ? tu : T(0), safe_v = inside ? tv : T(0);
    return inside ? int32_t(safe_v) * int32_t(width) + int32_t(safe_u) : -1;
  }
};

/// A depth reading in metres; whatever is not > 0 and finite is no reading.
template <class T> P2D3D_HD T metres(T reading, T /*scale*/) { return reading; }
template <class T> P2D3D_HD T metres(uint16_t reading, T scale) { return reading == 65535 ? T(0) : T(reading) / scale; }

template <class T> P2D3D_HD bool positive_finite(T z) { return (z > T(0)) & (z < T(__builtin_huge_val())); }

/// Which view entry i of arrays packed by `ptr` (V + 1) belongs to.
P2D3D_HD int64_t view_of(const View<const int64_t, 1> &ptr, int64_t i) {
  int64_t low = 0, high = ptr.shape[0] - 1;  // ptr[low] <= i < ptr[high]
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (ptr(middle) <= i ? low : high) = middle;
  }
  return low;
}
