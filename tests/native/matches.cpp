#include "scene.hpp"

namespace {

void run(const Matches &matches, const Size &s, int64_t wanted, const std::string &what) {
  Array<int64_t, 1> found(1);
  same_bits(
      "first_bad_match " + what,
      [&](const Exec &on) {
        found[0] = first_bad_match(on, matches.ptr, matches.point, matches.pixel, s.n, s.height * s.width);
      },
      found);
  if (found[0] != wanted) fail("first_bad_match " + what + ": " + std::to_string(found[0]));
}

}  // namespace

void drive_matches() {
  for (const Size &s : kSizes) {
    const Matches matches((Scene<float>(s)));
    run(matches, s, matches.point.size(), text(s));
  }
  const Size &s = kSizes[0];
  Matches matches((Scene<float>(s)));
  const int64_t last = matches.point.size() - 1, middle = last / 2;
  matches.pixel[last] = int32_t(s.height * s.width);
  run(matches, s, last, "a pixel beyond the image");
  matches.point[middle] = -1;
  run(matches, s, middle, "a negative point");
  matches.point[1] = matches.point[0];
  run(matches, s, 1, "a point twice in a view");
}
