#pragma once
// What sample and fuse_views read, and how.

#include "scene.hpp"

struct Reading {
  int64_t h, w, channels;
  bool bilinear, align_corners, normalize;

  MapRule rule(const Size &s) const { return {s.height, s.width, bilinear, align_corners}; }
};

/// Maps smaller and larger than the image, of one cell, row and column; whole lanes of channels, parts of them, none.
const Reading kReadings[] = {{5, 7, 66, true, false, false}, {5, 7, 9, true, false, true},
                             {1, 1, 3, true, true, true},    {6, 1, 64, false, false, true},
                             {1, 9, 5, false, true, false},  {26, 33, 4, true, true, false},
                             {5, 7, 0, true, false, true}};

inline std::string text(const Reading &r) {
  return std::to_string(r.h) + " x " + std::to_string(r.w) + " x " + std::to_string(r.channels) +
         (r.bilinear ? ", bilinear" : ", nearest") + (r.align_corners ? ", corners aligned" : "") +
         (r.normalize ? ", normalized" : "");
}

template <class F> Array<F, 4> random_maps(const Size &s, const Reading &r) {
  Random random(5);
  Array<F, 4> maps(s.views, r.h, r.w, r.channels);
  randomize(maps, random, -2, 2, 100);
  std::fill_n(maps.begin(), std::min(r.channels, maps.size()), F{});  // a row of length 0
  return maps;
}

/// f(F(), size, reading, words for them): all sizes in float32, one in the other types.
template <class Fn> void for_each_reading(const Fn &f) {
  for_each_feature([&](auto type) {
    using F = decltype(type);
    for (const Size &s : kSizes)
      for (const Reading &r : kReadings)
        if (std::is_same_v<F, float> || &s == kSizes)
          f(type, s, r, std::string(name_of<F>()) + ", " + text(s) + ", maps " + text(r));
  });
}
