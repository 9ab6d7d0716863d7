#include "neighbours.hpp"

void drive_ball_query() {
  const int64_t sizes[][3] = {{3000, 200, 16}, {70, 90, 100}, {9, 30, 1}, {1, 1, 2}, {5, 0, 3}, {0, 4, 2}};
  for_each_geometry([&](auto type) {
    using T = decltype(type);
    for (const auto &[n, q, k] : sizes) {
      const std::string how = std::string(name_of<T>()) + ", " + std::to_string(n) + " points, " + std::to_string(q) +
                              " queries, k = " + std::to_string(k);
      Random random(20);
      const Neighbours<T> cloud(n, random), queries(q, random);
      Array<int64_t, 2> index(q, k);
      Array<int64_t, 1> count(q);
      for (const double radius : {1e-15, 0.3, 1.0, 1e15})
        same_bits(
            "ball_query " + how + ", radius " + std::to_string(radius),
            [&](const Exec &on) {
              ball_query<T>(on, cloud.tree(), queries.points, queries.order, radius, index, count);
            },
            index, count);
    }
  });
}
