#include "core/for_each.hpp"
#include "core/long_sum.hpp"
#include "core/pinhole.hpp"
#include "core/sum_blocks.hpp"
#include "ops.hpp"

namespace {

/// One depth image and its camera.
template <class T, class D> struct DepthImage {
  Lifter<T> lifter;
  const D *depth;
  int64_t size, width;
  T scale;

  P2D3D_HD DepthImage(const DepthImages<T, D> &images, int64_t image)
      : lifter(images.world_from_camera, images.intrinsics, image),
        size(images.depth.shape[1] * images.depth.shape[2]),
        width(images.depth.shape[2]),
        scale(T(images.scale)) {
    depth = images.depth.data + image * size;
  }
  P2D3D_HD T z(int64_t pixel) const { return metres(depth[pixel], scale); }
  P2D3D_HD T u(int32_t pixel) const { return T(pixel % int32_t(width)); }
  P2D3D_HD T v(int32_t pixel) const { return T(pixel / int32_t(width)); }
  P2D3D_HD int tile_end(int64_t tile) const {
    const int64_t left = size - tile * kTile;
    return int(left < kTile ? left : kTile);
  }
};

template <class T, class D> struct CountTile {  // kTile pixels of one image
  DepthImages<T, D> images;
  View<int64_t, 2> count;

  P2D3D_HD void operator()(int64_t b, int64_t tile) const {
    const DepthImage<T, D> image(images, b);
    int32_t valid = 0;
    for (int j = 0; j < image.tile_end(tile); ++j) valid += positive_finite(image.z(tile * kTile + j));
    count(b, tile) = valid;
  }
};

template <class T, class D> struct FillTile {  // the same tile again
  DepthImages<T, D> images;
  View<const int64_t, 2> end;
  View<T, 2> points;
  View<int32_t, 1> pixel;

  P2D3D_HD int64_t begin(int64_t flat) const { return flat ? end.data[flat - 1] : 0; }
  P2D3D_HD void operator()(int64_t b, int64_t tile) const {
    const int64_t flat = b * end.shape[1] + tile;
    int64_t at = begin(flat);
    if (at == end.data[flat]) return;
    const DepthImage<T, D> image(images, b);
    const int n = image.tile_end(tile);
    T u[kTile], v[kTile], p[kTile][3];
    bool valid[kTile];
    int64_t column = tile * kTile % image.width, row = tile * kTile / image.width;
    for (int j = 0; j < n; ++j) {
      u[j] = T(column), v[j] = T(row);
      if (++column == image.width) column = 0, ++row;
    }
    for (int j = 0; j < n; ++j) {  // a loop of its own: the compiler turns it into vectors
      const T z = image.z(tile * kTile + j);
      valid[j] = positive_finite(z);
      image.lifter.lift(u[j], v[j], z, p[j]);
    }
    for (int j = 0; j < n; ++j) {
      if (!valid[j]) continue;
      for (int k = 0; k < 3; ++k) points(at, k) = p[j][k];
      pixel(at) = int32_t(tile * kTile + j);
      ++at;
    }
  }
};

#ifdef __CUDACC__
// On the device a warp takes a tile, its lanes side by side, so that reads and writes are contiguous.
constexpr int kWarpsPerBlock = detail::kBlock / 32;

/// visit(b, tile, image, in_image, valid) for each pixel of a tile by 32 lanes at a time, all of them taking part.
template <class T, class D, class Visit>
__device__ void for_each_tile(const DepthImages<T, D> &images, int64_t tiles, const Visit &visit) {
  for (int64_t i = int64_t(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32; i < tiles * images.depth.shape[0];
       i += int64_t(gridDim.x) * kWarpsPerBlock)
    visit(i, DepthImage<T, D>(images, i / tiles), i % tiles * kTile);
}

template <class T, class D> struct CountByWarp {
  CountTile<T, D> f;
  __device__ void operator()(int64_t i, const DepthImage<T, D> &image, int64_t first) const {
    int64_t valid = 0;
    for (int64_t at = first + threadIdx.x % 32; at - threadIdx.x % 32 < first + kTile; at += 32)
      valid += __popc(__ballot_sync(0xffffffffu, at < image.size && positive_finite(image.z(at))));
    if (threadIdx.x % 32 == 0) f.count.data[i] = valid;
  }
};

template <class T, class D> struct FillByWarp {
  FillTile<T, D> f;
  __device__ void operator()(int64_t i, const DepthImage<T, D> &image, int64_t first) const {
    const int lane = threadIdx.x % 32;
    int64_t slot = f.begin(i);
    for (int64_t at = first + lane; at - lane < first + kTile; at += 32) {
      const T z = at < image.size ? image.z(at) : T(0);
      const uint32_t valid = __ballot_sync(0xffffffffu, positive_finite(z));
      if (valid >> lane & 1u) {
        const int64_t mine = slot + __popc(valid & ((1u << lane) - 1u));
        image.lifter.lift(image.u(int32_t(at)), image.v(int32_t(at)), z, f.points.data + 3 * mine);
        f.pixel(mine) = int32_t(at);
      }
      slot += __popc(valid);
    }
  }
};

template <class T, class D, class ByWarp>
__global__ void __launch_bounds__(detail::kBlock) tile_kernel(DepthImages<T, D> images, int64_t tiles, ByWarp visit) {
  for_each_tile(images, tiles, visit);
}

template <class T, class D, class ByWarp>
void for_each_tile_on_cuda(const Exec &on, const DepthImages<T, D> &images, int64_t tiles, const ByWarp &visit) {
  const int64_t n = tiles * images.depth.shape[0];
  if (n) detail::launch(on, tile_kernel<T, D, ByWarp>, (n + kWarpsPerBlock - 1) / kWarpsPerBlock, images, tiles, visit);
}
#endif

template <class T, class D> struct LiftPixel {  // one chosen pixel
  DepthImages<T, D> images;
  View<const int64_t, 1> flat;
  View<T, 2> points;
  View<int32_t, 1> pixel;
  View<uint8_t, 1> valid;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const int64_t size = images.depth.shape[1] * images.depth.shape[2], b = flat(i) / size;
    P2D3D_DEVICE_CHECK(flat(i) >= 0 && b < images.depth.shape[0]);
    const DepthImage<T, D> image(images, b);
    const int32_t at = int32_t(flat(i) - b * size);
    T z = image.z(at);
    pixel(i) = at;
    valid(i) = positive_finite(z);
    if (!valid(i)) z = T(__builtin_nan(""));
    image.lifter.lift(image.u(at), image.v(at), z, &points(i, 0));
  }
};

/// What the gradient of a point says of its depth and camera.
template <class T> struct LiftGrad {
  T ray_x, ray_y, gx, gy, gz;  // gradient to the point in the camera's frame

  P2D3D_HD LiftGrad(const Lifter<T> &lifter, T u, T v, const T *g) : ray_x(lifter.ray_x(u)), ray_y(lifter.ray_y(v)) {
    const T *r = lifter.camera.r;
    gx = r[0] * g[0] + r[4] * g[1] + r[8] * g[2];
    gy = r[1] * g[0] + r[5] * g[1] + r[9] * g[2];
    gz = r[2] * g[0] + r[6] * g[1] + r[10] * g[2];
  }
  P2D3D_HD T depth() const { return (gx * ray_x + gy * ray_y) + gz; }
};

template <class T, class D> struct GradRows {
  DepthImages<T, D> images;
  View<const int64_t, 1> flat, row, ptr;
  View<const T, 2> grad;

  P2D3D_HD const T *of(int64_t s) const { return grad.data + 3 * (row ? row(s) : s); }
};

template <class T, class D> struct GradOfDepth {  // one run of equal pixels; whoever stands at its start does it
  GradRows<T, D> rows;
  View<T, 3> out;

  P2D3D_HD void operator()(int64_t, int64_t s) const {
    const int64_t at = rows.flat(s), size = out.shape[1] * out.shape[2];
    if (s > 0 && rows.flat(s - 1) == at) return;
    const DepthImage<T, D> image(rows.images, at / size);
    const int32_t pixel = int32_t(at % size);
    if (!positive_finite(image.z(pixel))) return;
    T sum = 0;
    LongSum<T, 1> whole;
    for (int64_t i = s; i < rows.flat.shape[0] && rows.flat(i) == at; ++i) {
      whole.begin_term(&sum);
      sum += LiftGrad<T>(image.lifter, image.u(pixel), image.v(pixel), rows.of(i)).depth();
    }
    whole.finish(&sum);
    out.data[at] = sum;
  }
};

template <class T, class D> struct GradOfCameraBlock {  // kGradBlock rows of one image
  GradRows<T, D> rows;
  View<double, 3> partial;

  P2D3D_HD void operator()(int64_t b, int64_t block) const {
    const DepthImage<T, D> image(rows.images, b);
    const T *k = image.lifter.camera.k;
    double sum[16] = {};
    const int64_t begin = rows.ptr(b) + block * kGradBlock, end = begin + kGradBlock;
    for (int64_t s = begin; s < end && s < rows.ptr(b + 1); ++s) {
      const int32_t pixel = int32_t(rows.flat(s) - b * image.size);
      const T z = image.z(pixel);
      if (!positive_finite(z)) continue;
      const T *g = rows.of(s);
      const LiftGrad<T> lift(image.lifter, image.u(pixel), image.v(pixel), g);
      const double p[4] = {double(lift.ray_x * z), double(lift.ray_y * z), double(z), 1.0};
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 4; ++j) sum[4 * i + j] += double(g[i]) * p[j];
      const double along_x = double(lift.gx * z / k[0]), along_y = double(lift.gy * z / k[1]);
      sum[12] -= along_x * double(lift.ray_x);
      sum[13] -= along_y * double(lift.ray_y);
      sum[14] -= along_x;
      sum[15] -= along_y;
    }
    for (int j = 0; j < 16; ++j) partial(b, block, j) = sum[j];
  }
};

}  // namespace

template <class T, class D> void back_project_count(const Exec &on, DepthImages<T, D> images, View<int64_t, 2> count) {
  const CountTile<T, D> f{images, count};
#ifdef __CUDACC__
  if (on.cuda()) return for_each_tile_on_cuda(on, images, count.shape[1], CountByWarp<T, D>{f});
#endif
  for_each(on, count.shape[0], count.shape[1], f);
}

template <class T, class D>
void back_project_fill(const Exec &on, DepthImages<T, D> images, View<const int64_t, 2> end, View<T, 2> points,
                       View<int32_t, 1> pixel) {
  const FillTile<T, D> f{images, end, points, pixel};
#ifdef __CUDACC__
  if (on.cuda()) return for_each_tile_on_cuda(on, images, end.shape[1], FillByWarp<T, D>{f});
#endif
  for_each(on, end.shape[0], end.shape[1], f);
}

template <class T, class D>
void back_project_pixels(const Exec &on, DepthImages<T, D> images, View<const int64_t, 1> flat, View<T, 2> points,
                         View<int32_t, 1> pixel, View<uint8_t, 1> valid) {
  for_each(on, 1, flat.shape[0], LiftPixel<T, D>{images, flat, points, pixel, valid});
}

template <class T, class D>
void back_project_grad(const Exec &on, DepthImages<T, D> images, View<const int64_t, 1> flat,
                       View<const int64_t, 1> row, View<const int64_t, 1> ptr, View<const T, 2> grad,
                       View<T, 3> out_depth, View<double, 3> partial, View<T, 2> out_camera) {
  const GradRows<T, D> rows{images, flat, row, ptr, grad};
  if (out_depth) for_each(on, 1, flat.shape[0], GradOfDepth<T, D>{rows, out_depth});
  for_each(on, partial.shape[0], partial.shape[1], GradOfCameraBlock<T, D>{rows, partial});
  sum_blocks(on, partial, out_camera);
}

#define P2D3D_FOR(T, D)                                                                                               \
  template void back_project_count<T, D>(const Exec &, DepthImages<T, D>, View<int64_t, 2>);                          \
  template void back_project_fill<T, D>(const Exec &, DepthImages<T, D>, View<const int64_t, 2>, View<T, 2>,          \
                                        View<int32_t, 1>);                                                            \
  template void back_project_pixels<T, D>(const Exec &, DepthImages<T, D>, View<const int64_t, 1>, View<T, 2>,        \
                                          View<int32_t, 1>, View<uint8_t, 1>);                                        \
  template void back_project_grad<T, D>(const Exec &, DepthImages<T, D>, View<const int64_t, 1>,                      \
                                        View<const int64_t, 1>, View<const int64_t, 1>, View<const T, 2>, View<T, 3>, \
                                        View<double, 3>, View<T, 2>);
P2D3D_FOR(float, float)
P2D3D_FOR(float, uint16_t)
P2D3D_FOR(double, double)
P2D3D_FOR(double, uint16_t)
