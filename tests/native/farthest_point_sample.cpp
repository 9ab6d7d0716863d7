#include <numeric>
#include <vector>

#include "neighbours.hpp"

namespace {

template <class T> void run(const std::vector<int64_t> &begins, int64_t samples, int64_t start) {
  const int64_t clouds = int64_t(begins.size()) - 1, n = begins.back();
  const std::string how = std::string(name_of<T>()) + ", " + std::to_string(clouds) + " clouds, " + std::to_string(n) +
                          " points, " + std::to_string(samples) + " of each from " + std::to_string(start);
  Random random(22);
  const Neighbours<T> cloud(n, random);
  Array<int64_t, 1> ptr(clouds + 1), order(n), out(clouds * samples);
  std::copy(begins.begin(), begins.end(), ptr.begin());
  std::iota(order.begin(), order.end(), int64_t(0));
  Array<T, 1> distance(n);
  // Python takes one on the CPU and the other on CUDA: they have to choose alike.
  same_bits(
      "farthest_point_sample " + how,
      [&](const Exec &on) {
        if (on.rehearse) return farthest_point_sample<T>(on, cloud.points, ptr, start, samples, distance, out);
        for (const int64_t size : {int64_t(5), farthest_point_sample_bucket(n)}) {
          const int64_t buckets = n / size + clouds;
          Array<T, 2> sorted(4, n), bucket(7, buckets);
          Array<int32_t, 1> point(n), farthest(buckets);
          farthest_point_sample_buckets<T>(on, cloud.points, ptr, order, start, samples, size, sorted, point, bucket,
                                           farthest, out);
        }
      },
      out);
}

}  // namespace

void drive_farthest_point_sample() {
  for_each_geometry([](auto type) {
    using T = decltype(type);
    run<T>({0, 3000}, 100, 7);
    run<T>({0, 40, 40, 41, 700}, 60, 0);  // more than some have
    run<T>({0, 33, 64}, 33, 40);          // beyond the clouds
    run<T>({0, 1}, 1, 0);
    run<T>({0, 0}, 2, 0);
    run<T>({0}, 3, 0);
  });
}
