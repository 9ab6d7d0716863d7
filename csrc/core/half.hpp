#pragma once
// 16-bit floats as storage: features come and go in them, every sum is made in float.

#include <cstdint>
#include <cstring>

#include "core/macros.hpp"

template <class To, class From> P2D3D_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

struct BFloat16 {
  uint16_t bits;

  P2D3D_HD operator float() const { return bit_cast<float>(uint32_t(bits) << 16); }
  P2D3D_HD static BFloat16 from(float x) {  // to nearest, ties to even
    const uint32_t b = bit_cast<uint32_t>(x);
    if ((b & 0x7fffffffu) > 0x7f800000u) return {uint16_t(0x7fc0)};
    return {uint16_t((b + 0x7fffu + ((b >> 16) & 1u)) >> 16)};
  }
};

struct Half {
  uint16_t bits;

  // Both ways rescale by a power of two, which floats do exactly, so that subnormals need no case of their own. Every
  // case is computed and one is selected, of signed numbers: that becomes vectors on every instruction set.
  P2D3D_HD operator float() const {
    const int32_t magnitude = int32_t(bits & 0x7fff) << 13, sign = int32_t(uint32_t(bits & 0x8000) << 16);
    const int32_t finite = bit_cast<int32_t>(bit_cast<float>(magnitude) * bit_cast<float>(0x77800000));  // 2^112
    return bit_cast<float>((magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : finite) | sign);
  }
  P2D3D_HD static Half from(float x) {  // to nearest, ties to even
    const int32_t b = bit_cast<int32_t>(x), sign = (b >> 16) & 0x8000, a = b & 0x7fffffff;
    const int32_t normal = ((a - 0x38000000) + 0xfff + ((a >> 13) & 1)) >> 13;  // (127 - 15) << 23
    const int32_t subnormal = bit_cast<int32_t>(bit_cast<float>(a) + 0.5f) - 0x3f000000;
    int32_t h = a < 0x38800000 ? subnormal : normal;
    h = a >= 0x477ff000 ? 0x7c00 : h;  // 65520 and up
    h = a > 0x7f800000 ? 0x7e00 : h;   // NaN
    return {uint16_t(h | sign)};
  }
};

/// What features of type F are summed in, and back.
template <class F> struct Accumulator {
  using type = float;
};
template <> struct Accumulator<double> {
  using type = double;
};
template <class F> using acc_t = typename Accumulator<F>::type;

template <class F, class A> P2D3D_HD F store(A x) {
  if constexpr (sizeof(F) == 2) return F::from(x);
  else return x;
}
