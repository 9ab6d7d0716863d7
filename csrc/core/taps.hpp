#pragma once
// Where does a pixel read a map? The four cells around it and their weights, for sample and fuse_views alike.

#include <type_traits>

#include "core/lanes.hpp"
#include "core/pinhole.hpp"
#include "ops.hpp"

/// A read place: four flat cells of (V h w) with weights that sum to 1, or nothing (cell[0] < 0) outside the image.
template <class A> struct Taps {
  int64_t cell[4] = {-1, -1, -1, -1};  // (y0, x0) (y0, x1) (y1, x0) (y1, x1)
  A weight[4] = {0, 0, 0, 0};
  A fx = 0, fy = 0;                     // how far beyond cell 0
  bool free_x = false, free_y = false;  // not held at the edge of the map: there the value does not depend on the pixel

  P2D3D_HD bool inside() const { return cell[0] >= 0; }

  /// Four cells are read, not one: to be asked outside of loops, each with a value() of its own.
  P2D3D_HD bool bilinear() const { return cell[1] >= 0; }

  /// Channel c of the row that is read.
  template <class F, class Bilinear> P2D3D_HD A value(Bilinear, const View<const F, 4> &maps, int64_t c) const {
    const int64_t channels = maps.shape[3];
    const A a = A(maps.data[cell[0] * channels + c]);
    if constexpr (!Bilinear::value) return weight[0] * a;
    else
      return ((weight[0] * a + weight[1] * A(maps.data[cell[1] * channels + c])) +
              weight[2] * A(maps.data[cell[2] * channels + c])) +
             weight[3] * A(maps.data[cell[3] * channels + c]);
  }
  template <class F> P2D3D_HD A value(const View<const F, 4> &maps, int64_t c) const {
    return bilinear() ? value(std::true_type(), maps, c) : value(std::false_type(), maps, c);
  }
};

/// Turns place i of `Places` into taps. F is the maps' type, U that of the pixels.
template <class F, class U> struct Reader {
  using A = acc_t<F>;
  View<const F, 4> maps;  // (V, h, w, C)
  Places<U> places;
  MapRule rule;
  U scale_x, scale_y;

  Reader(View<const F, 4> maps_, const Places<U> &places_, const MapRule &rule_)
      : maps(maps_),
        places(places_),
        rule(rule_),
        scale_x(scale(maps_.shape[2], rule_.width)),
        scale_y(scale(maps_.shape[1], rule_.height)) {}

  U scale(int64_t n, int64_t full) const {
    if (!rule.align_corners) return U(double(n) / double(full));
    return full > 1 ? U(double(n - 1) / double(full - 1)) : U(0);
  }
  P2D3D_HD int64_t view(int64_t i) const {
    if (places.uv) return i / places.uv.shape[1];
    return places.flat ? places.flat(i) / (rule.height * rule.width) : view_of(places.ptr, i);
  }

  P2D3D_HD Taps<A> taps(int64_t i) const { return taps(i, view(i)); }
  P2D3D_HD Taps<A> taps(int64_t i, int64_t view) const {
    if (!places.uv) {
      const int64_t in_image = places.flat ? places.flat(i) - view * rule.height * rule.width : places.pixel(i);
      P2D3D_DEVICE_CHECK(in_image >= 0 && view < maps.shape[0]);
      const int32_t pixel = int32_t(in_image), v = pixel / int32_t(rule.width), u = pixel - v * int32_t(rule.width);
      return at(view, U(u), U(v));
    }
    const U u = places.uv.data[2 * i], v = places.uv.data[2 * i + 1];
    return Frame{rule.height, rule.width, 0}.pixel(u, v) < 0 ? Taps<A>() : at(view, u, v);
  }

 private:
  P2D3D_HD U cell_coordinate(U u, U scale, int64_t n, bool &free) const {
    const U x = rule.align_corners ? u * scale : (u + U(0.5)) * scale - U(0.5);
    free = x > U(0) && x < U(n - 1);
    return x < U(0) ? U(0) : x > U(n - 1) ? U(n - 1) : x;
  }
  P2D3D_HD Taps<A> at(int64_t view, U u, U v) const {
    const int64_t h = maps.shape[1], w = maps.shape[2], first = view * h * w;
    Taps<A> out;
    const U x = cell_coordinate(u, scale_x, w, out.free_x), y = cell_coordinate(v, scale_y, h, out.free_y);
    if (!rule.bilinear) {
      out.cell[0] = first + int64_t(y + U(0.5)) * w + int64_t(x + U(0.5));
      out.weight[0] = 1;
      return out;
    }
    const int64_t x0 = int64_t(x), y0 = int64_t(y), x1 = x0 + 1 < w ? x0 + 1 : x0, y1 = y0 + 1 < h ? y0 + 1 : y0;
    out.fx = A(x - U(x0));
    out.fy = A(y - U(y0));
    const A gx = A(1) - out.fx, gy = A(1) - out.fy;
    out.cell[0] = first + y0 * w + x0, out.weight[0] = gy * gx;
    out.cell[1] = first + y0 * w + x1, out.weight[1] = gy * out.fx;
    out.cell[2] = first + y1 * w + x0, out.weight[2] = out.fy * gx;
    out.cell[3] = first + y1 * w + x1, out.weight[3] = out.fy * out.fx;
    return out;
  }
};

/// Sum of f(c) over the channels in interleaved parts: a fixed order that the compiler can turn into vectors.
template <class A, class Term> P2D3D_HD A sum_over_channels(int64_t channels, const Term &term) {
  constexpr int kParts = 16;
  A part[kParts] = {};
  int64_t c = 0;
  for (; c + kParts <= channels; c += kParts)
    for (int j = 0; j < kParts; ++j) part[j] += term(c + j);
  for (int j = 0; c + j < channels; ++j) part[j] += term(c + j);
  for (int half = kParts / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) part[j] += part[j + half];
  return part[0];
}

template <class A> P2D3D_HD A root(A x) {
#ifdef __CUDA_ARCH__
  return sqrt(x);
#else
  return sizeof(A) == 4 ? A(__builtin_sqrtf(float(x))) : A(__builtin_sqrt(double(x)));
#endif
}

/// One term of the above: the square of a channel.
template <class F, class Bilinear> struct SquareOf {
  const View<const F, 4> &maps;
  const Taps<acc_t<F>> &taps;
  P2D3D_HD acc_t<F> operator()(int64_t c) const {
    const acc_t<F> x = taps.value(Bilinear(), maps, c);
    return x * x;
  }
};

template <class F> P2D3D_HD acc_t<F> length_of_row(const View<const F, 4> &maps, const Taps<acc_t<F>> &taps) {
  using A = acc_t<F>;
  if (taps.bilinear()) return root(sum_over_channels<A>(maps.shape[3], SquareOf<F, std::true_type>{maps, taps}));
  return root(sum_over_channels<A>(maps.shape[3], SquareOf<F, std::false_type>{maps, taps}));
}

constexpr double kSmallestNorm = 1e-12;

template <class F, class U> struct NormOfRow {  // one place
  Reader<F, U> reader;
  View<acc_t<F>, 1> norm;
  P2D3D_HD void operator()(int64_t, int64_t i) const {
    using A = acc_t<F>;
    const Taps<A> taps = reader.taps(i);
    A length = 0;
    if (taps.inside()) length = length_of_row(reader.maps, taps);
    norm(i) = length < A(kSmallestNorm) ? A(kSmallestNorm) : length;  // NaN stays
  }
};
