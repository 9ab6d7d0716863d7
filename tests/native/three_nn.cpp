#include "neighbours.hpp"

void drive_three_nn() {
  const int64_t sizes[][2] = {{3000, 200}, {70, 90}, {9, 30}, {2, 5}, {1, 1}, {5, 0}, {0, 4}};  // points, queries
  for_each_geometry([&](auto type) {
    using T = decltype(type);
    for (const auto &[n, q] : sizes) {
      const std::string how =
          std::string(name_of<T>()) + ", " + std::to_string(n) + " points, " + std::to_string(q) + " queries";
      Random random(21);
      const Neighbours<T> cloud(n, random), queries(q, random);
      Array<T, 2> distance(q, 3), grad(q, 3), pull(3 * q, 3), out(q, 3);
      Array<int64_t, 2> index(q, 3);
      randomize(grad, random, -1, 1, 30);
      same_bits(
          "three_nn " + how,
          [&](const Exec &on) { three_nn<T>(on, cloud.tree(), queries.points, queries.order, distance, index); },
          distance, index);
      same_bits(
          "three_nn_grad " + how,
          [&](const Exec &on) { three_nn_grad<T>(on, cloud.points, queries.points, index, grad, pull, out); }, pull,
          out);
    }
  });
}
