#include "driver.hpp"
#include "ops.hpp"

void drive_splat() {
  for_each_feature([](auto type) {
    using F = decltype(type);
    const int64_t sizes[][3] = {{40, 300, 70}, {40, 300, 4}, {7, 30, 64}, {7, 1, 1},
                                {40, 300, 0},  {0, 20, 3},   {7, 0, 3},   {40, 9000, 5}};
    for (const auto &[n, places, channels] : sizes) {
      const std::string how = std::string(name_of<F>()) + ", " + std::to_string(n) + " rows of " +
                              std::to_string(channels) + " at " + std::to_string(places) + " places";
      Random random(4);
      Array<F, 2> rows(n, channels), taken(places, channels);
      randomize(rows, random, -2, 2, 50);
      Array<int64_t, 1> index(places);
      for (int64_t &i : index) i = random.below(n + 1) - 1;
      same_bits("take_rows " + how, [&](const Exec &on) { take_rows<F>(on, rows, index, taken); }, taken);

      // The rows of many places summed into few, some of which get none; in the last size, sums of several blocks.
      const int64_t destinations = 25;
      Array<int64_t, 1> row(n ? places : 0), key(n ? places : 0), count(destinations);
      for (int64_t &i : row) i = random.below(n);
      for (int64_t &k : key) k = random.below(destinations + 2) - 2;
      std::sort(key.begin(), key.end());
      if (key.size() > 1) key[key.size() - 1] = destinations - 1;
      Array<acc_t<F>, 1> weight(n);
      randomize(weight, random, 0, 1, 50);
      Array<F, 2> out(destinations, channels);
      count.fill(0);
      out.fill(F{});
      for (const bool mean : {false, true}) {
        same_bits(
            "sum_runs " + how, [&](const Exec &on) { sum_runs<F>(on, rows, row, key, weight, mean, count, out); },
            count, out);
        same_bits("sum_runs " + how, [&](const Exec &on) { sum_runs<F>(on, rows, row, key, {}, mean, {}, out); }, out);
      }
    }
  });
}
