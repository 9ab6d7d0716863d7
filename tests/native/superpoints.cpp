#include <limits>

#include "driver.hpp"
#include "ops.hpp"

namespace {

template <class T> void run(int64_t n, int64_t e, int64_t min_size, const std::string &how) {
  Random random(18);
  Array<T, 2> points(n, 3), normals(n, 3);
  randomize(points, random, -2, 2, 50);
  randomize(normals, random, -1, 1, 50);
  Array<int64_t, 2> edges(e, 2);
  for (int64_t &end : edges)
    end = random.below(3) ? random.below(n) : n - 1;  // some twice, some from a point to itself
  Array<T, 1> weight(e), sorted(e), threshold(n);
  same_bits(
      "superpoints_weights " + how, [&](const Exec &on) { superpoints_weights<T>(on, points, normals, edges, weight); },
      weight);
  Array<int64_t, 1> order(e), size(n), out(n);
  for (int64_t i = 0; i < e; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return weight[a] < weight[b]; });
  for (int64_t i = 0; i < e; ++i) sorted[i] = weight[order[i]];
  order.fill();  // each run finds it sorted, and uses it up
  for (const double k : {0.0, 0.3, double(std::numeric_limits<T>::max())})
    same_bits(
        "superpoints_merge " + how + ", k = " + std::to_string(k),
        [&](const Exec &) { superpoints_merge<T>(edges, sorted, k, min_size, order, threshold, size, out); }, order,
        out);
}

}  // namespace

void drive_superpoints() {
  const int64_t sizes[][2] = {{500, 900}, {40, 5}, {1, 3}, {7, 0}, {0, 0}};  // points, edges
  for_each_geometry([&](auto type) {
    using T = decltype(type);
    for (const auto &[n, e] : sizes)
      for (const int64_t min_size : {int64_t(1), int64_t(4), INT64_MAX})
        run<T>(n, e, min_size,
               std::string(name_of<T>()) + ", " + std::to_string(n) + " points, " + std::to_string(e) + " edges");
  });
}
