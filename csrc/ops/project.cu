#include "core/for_each.hpp"
#include "core/pinhole.hpp"
#include "core/sum_blocks.hpp"
#include "ops.hpp"

namespace {

template <class T> struct InvertPose {  // one view
  View<const T, 3> pose;
  View<double, 3> out;

  P2D3D_HD double at(int64_t view, int i, int j) const { return double(pose(view, i, j)); }
  P2D3D_HD double cofactor(int64_t view, int i, int j) const {  // cyclic, so that the sign is in the order
    const int r = (i + 1) % 3, s = (i + 2) % 3, p = (j + 1) % 3, q = (j + 2) % 3;
    return at(view, r, p) * at(view, s, q) - at(view, r, q) * at(view, s, p);
  }
  P2D3D_HD void operator()(int64_t, int64_t view) const {
    const double det = (at(view, 0, 0) * cofactor(view, 0, 0) + at(view, 0, 1) * cofactor(view, 0, 1)) +
                       at(view, 0, 2) * cofactor(view, 0, 2);
    for (int i = 0; i < 3; ++i) {
      double r[3];
      for (int j = 0; j < 3; ++j) out(view, i, j) = r[j] = cofactor(view, j, i) / det;
      out(view, i, 3) = -((r[0] * at(view, 0, 3) + r[1] * at(view, 1, 3)) + r[2] * at(view, 2, 3));
    }
  }
};

template <class T> struct ProjectPoint {  // one point in one view
  View<const T, 2> points;
  View<const T, 3> camera_from_world;
  View<const T, 2> intrinsics;
  View<T, 3> uvz;

  P2D3D_HD void operator()(int64_t view, int64_t n) const {
    const Pinhole<T> camera(camera_from_world, intrinsics, view);
    const Uvz<T> at = camera.project(points.data + 3 * n);
    T *out = uvz.data + 3 * (view * points.shape[0] + n);
    out[0] = at.u;
    out[1] = at.v;
    out[2] = at.z;
  }
};

/// Gradient of u, v, z to the point in the camera's frame, and that point.
template <class T> struct CameraGrad {
  T x, y, z, gx, gy, gz;

  P2D3D_HD CameraGrad(const Pinhole<T> &camera, const T *p, const T *g) {
    x = camera.along(0, p[0], p[1], p[2]);
    y = camera.along(1, p[0], p[1], p[2]);
    z = camera.along(2, p[0], p[1], p[2]);
    gx = g[0] * camera.k[0] / z;
    gy = g[1] * camera.k[1] / z;
    gz = g[2] - (gx * (x / z) + gy * (y / z));
  }
};

template <class T> struct GradOfPoint {  // one point, over all views
  View<const T, 2> points;
  View<const T, 3> camera_from_world;
  View<const T, 2> intrinsics;
  View<const T, 3> grad;
  View<T, 2> out;

  P2D3D_HD void operator()(int64_t, int64_t n) const {
    T sum[3] = {0, 0, 0};
    for (int64_t view = 0; view < camera_from_world.shape[0]; ++view) {
      const Pinhole<T> camera(camera_from_world, intrinsics, view);
      const CameraGrad<T> g(camera, points.data + 3 * n, &grad(view, n, 0));
      for (int j = 0; j < 3; ++j) sum[j] += camera.r[j] * g.gx + camera.r[4 + j] * g.gy + camera.r[8 + j] * g.gz;
    }
    for (int j = 0; j < 3; ++j) out(n, j) = sum[j];
  }
};

template <class T> struct GradOfCameraBlock {  // one block of points in one view
  View<const T, 2> points;
  View<const T, 3> camera_from_world;
  View<const T, 2> intrinsics;
  View<const T, 3> grad;
  View<double, 3> partial;

  P2D3D_HD void operator()(int64_t view, int64_t block) const {
    const Pinhole<T> camera(camera_from_world, intrinsics, view);
    double sum[16] = {};
    const int64_t begin = block * kGradBlock, end = begin + kGradBlock;
    for (int64_t n = begin; n < end && n < points.shape[0]; ++n) {
      const T *p = points.data + 3 * n, *g = &grad(view, n, 0);
      const CameraGrad<T> at(camera, p, g);
      const double rows[3] = {double(at.gx), double(at.gy), double(at.gz)};
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) sum[4 * i + j] += rows[i] * double(p[j]);
        sum[4 * i + 3] += rows[i];
      }
      sum[12] += double(g[0]) * double(at.x / at.z);
      sum[13] += double(g[1]) * double(at.y / at.z);
      sum[14] += double(g[0]);
      sum[15] += double(g[1]);
    }
    for (int j = 0; j < 16; ++j) partial(view, block, j) = sum[j];
  }
};

}  // namespace

template <class T> void camera_from_world(const Exec &on, View<const T, 3> world_from_camera, View<double, 3> out) {
  for_each(on, 1, out.shape[0], InvertPose<T>{world_from_camera, out});
}

template <class T>
void project(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world, View<const T, 2> intrinsics,
             View<T, 3> uvz) {
  for_each(on, uvz.shape[0], uvz.shape[1], ProjectPoint<T>{points, camera_from_world, intrinsics, uvz});
}

template <class T>
void project_grad_points(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                         View<const T, 2> intrinsics, View<const T, 3> grad, View<T, 2> out) {
  for_each(on, 1, points.shape[0], GradOfPoint<T>{points, camera_from_world, intrinsics, grad, out});
}

template <class T>
void project_grad_camera(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                         View<const T, 2> intrinsics, View<const T, 3> grad, View<double, 3> partial, View<T, 2> out) {
  for_each(on, partial.shape[0], partial.shape[1],
           GradOfCameraBlock<T>{points, camera_from_world, intrinsics, grad, partial});
  sum_blocks(on, partial, out);
}

#define P2D3D_FOR(T)                                                                                        \
  template void camera_from_world<T>(const Exec &, View<const T, 3>, View<double, 3>);                      \
  template void project<T>(const Exec &, View<const T, 2>, View<const T, 3>, View<const T, 2>, View<T, 3>); \
  template void project_grad_points<T>(const Exec &, View<const T, 2>, View<const T, 3>, View<const T, 2>,  \
                                       View<const T, 3>, View<T, 2>);                                       \
  template void project_grad_camera<T>(const Exec &, View<const T, 2>, View<const T, 3>, View<const T, 2>,  \
                                       View<const T, 3>, View<double, 3>, View<T, 2>);
P2D3D_FOR(float)
P2D3D_FOR(double)
