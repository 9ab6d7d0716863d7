#include "maps.hpp"

void drive_fuse_views() {
  for_each_reading([](auto type, const Size &s, const Reading &r, const std::string &how) {
    using F = decltype(type);
    using A = acc_t<F>;
    const Matches matches((Scene<float>(s)));
    const Array<F, 4> maps = random_maps<F>(s, r);
    const Places<A> places{{}, matches.ptr, matches.pixel, {}};
    Array<A, 1> norm(r.normalize ? matches.point.size() : 0);
    Array<A, 2> fused(s.n, r.channels);
    Array<int32_t, 1> count(s.n);
    Array<int32_t, 2> arg(s.n, r.channels);
    arg.fill(-1);
    const auto run = [&](bool maximum, bool finish, View<int32_t, 2> from, const std::string &what) {
      same_bits(
          "fuse_views " + how + what,
          [&](const Exec &on) {
            fuse_views<F>(on, maps, places, matches.point, r.rule(s), norm, maximum, finish, fused, count, from);
          },
          fused, count, arg);
    };
    count.fill(0);
    run(false, true, {}, ", mean");
    run(true, true, {}, ", maximum");
    run(true, true, arg, ", maximum and its view");

    // As more views come: onto what earlier ones left.
    Random random(10);
    randomize(fused, random, -1, 1, 100);
    for (int32_t &n : count) n = int32_t(random.below(3));
    fused.fill();
    count.fill();
    run(false, false, {}, ", sums of more views");
    run(true, false, {}, ", maxima of more views");
  });
}
