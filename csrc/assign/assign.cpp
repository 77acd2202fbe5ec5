// Shortest augmenting paths (Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
// Computing 38, 1987) over the pairs that are cheap enough. In a frame these are few: most rows have one or two.
#include "assign/assign.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace fastpose {
namespace {

constexpr double kFar = std::numeric_limits<double>::infinity();
constexpr int64_t kNone = -1;

struct Edge {
  int64_t column;
  double cost;  // less what staying alone costs: 0 or below
};

struct Column {
  double price = 0.0;       // of the dual problem, 0 or below; 0 while nobody has the column
  int64_t owner = kNone;    // row
  double distance = kFar;   // in the present search
  int64_t before = kNone;   // the row from which it was reached
  bool done = false;        // its distance is final
};

struct Row {
  int64_t first_edge = 0;
  double price = 0.0;
  int64_t column = kNone;
};

class Assignment {
 public:
  Assignment(int64_t rows, int64_t columns) : rows_(static_cast<size_t>(rows) + 1), columns_(static_cast<size_t>(columns)) {}

  // False if a cost is NaN or minus infinity.
  template <class T>
  bool read(const T* costs, double most) {
    const int64_t n = count(), m = static_cast<int64_t>(columns_.size());
    for (int64_t i = 0; i < n; ++i) {
      row(i).first_edge = static_cast<int64_t>(edges_.size());
      for (int64_t j = 0; j < m; ++j) {
        const double cost = static_cast<double>(costs[i * m + j]);
        if (cost != cost || cost == -kFar) return false;
        if (cost <= most) edges_.push_back({j, cost - most});
      }
    }
    row(n).first_edge = static_cast<int64_t>(edges_.size());
    return true;
  }

  void solve() {
    for (int64_t i = 0; i < count(); ++i)
      if (!take_cheapest(i)) augment(i);
  }

  int64_t count() const { return static_cast<int64_t>(rows_.size()) - 1; }
  int64_t column_of(int64_t i) const { return rows_[static_cast<size_t>(i)].column; }

 private:
  Row& row(int64_t i) { return rows_[static_cast<size_t>(i)]; }
  Column& column(int64_t j) { return columns_[static_cast<size_t>(j)]; }

  template <class Visit>
  void for_edges(int64_t i, Visit visit) {
    for (int64_t e = row(i).first_edge; e < row(i + 1).first_edge; ++e) visit(edges_[static_cast<size_t>(e)]);
  }

  // The row's price, and its column where nobody has that: the usual case.
  bool take_cheapest(int64_t i) {
    double least = 0.0;  // alone
    int64_t best = kNone;
    for_edges(i, [&](const Edge& edge) {
      const double reduced = edge.cost - column(edge.column).price;
      if (reduced < least || (reduced == least && best == kNone)) {
        least = reduced;
        best = edge.column;
      }
    });
    row(i).price = least;
    if (best != kNone && column(best).owner != kNone) return false;
    if (best != kNone) take(i, best);
    return true;
  }

  void take(int64_t i, int64_t j) {
    row(i).column = j;
    column(j).owner = i;
  }

  // Give row `start` a column, or leave it alone, by the shortest path over the columns that others have: each on the path takes the next.
  // The path ends at a column that nobody has, or with a row that had better be alone.
  void augment(int64_t start) {
    int64_t current = start, alone = start, end = kNone;
    double length = 0.0, alone_length = kFar;
    open_.clear();
    final_.clear();
    for (;;) {
      const double from = length - row(current).price;
      if (from < alone_length) {
        alone_length = from;
        alone = current;
      }
      for_edges(current, [&](const Edge& edge) {
        Column& c = column(edge.column);
        const double distance = from + edge.cost - c.price;
        if (c.done || distance >= c.distance) return;
        if (c.distance == kFar) open_.push_back(edge.column);
        c.distance = distance;
        c.before = current;
      });
      size_t nearest = open_.size();
      double least = kFar;
      for (size_t k = 0; k < open_.size(); ++k) {
        if (column(open_[k]).distance >= least) continue;
        nearest = k;
        least = column(open_[k]).distance;
      }
      if (nearest == open_.size() || alone_length < least) {
        length = alone_length;
        break;
      }
      length = least;
      const int64_t j = open_[nearest];
      open_[nearest] = open_.back();
      open_.pop_back();
      final_.push_back(j);
      column(j).done = true;
      if (column(j).owner == kNone) {
        end = j;
        break;
      }
      current = column(j).owner;
    }
    settle(start, length);
    if (end == kNone) {
      end = row(alone).column;  // which it gives up; none if it is the start
      row(alone).column = kNone;
    }
    while (end != kNone) {
      const int64_t taker = column(end).before, given_up = row(taker).column;
      take(taker, end);
      end = taker == start ? kNone : given_up;
    }
    for (const int64_t j : open_) column(j).distance = kFar;
    for (const int64_t j : final_) {
      column(j).distance = kFar;
      column(j).done = false;
    }
  }

  // New prices, by which every pair that stands and every step of the path costs nothing.
  void settle(int64_t start, double length) {
    row(start).price += length;
    for (const int64_t j : final_) {
      Column& c = column(j);
      if (c.owner == kNone) continue;  // where the path ends
      row(c.owner).price += length - c.distance;
      c.price -= length - c.distance;
    }
  }

  std::vector<Row> rows_;  // one more, whose first edge is the end
  std::vector<Column> columns_;
  std::vector<Edge> edges_;     // by row
  std::vector<int64_t> open_;   // columns that the present search has reached
  std::vector<int64_t> final_;  // those of them whose distance is final, no longer in open_
};

}  // namespace

bool assign_cpu(const AssignArgs& args) {
  Assignment assignment(args.rows, args.columns);
  const bool numbers = args.dtype == DType::Float32 ? assignment.read(static_cast<const float*>(args.costs), args.most)
                                                    : assignment.read(static_cast<const double*>(args.costs), args.most);
  if (!numbers) return false;
  assignment.solve();
  for (int64_t i = 0; i < args.rows; ++i) args.column_of[i] = assignment.column_of(i);
  return true;
}

}  // namespace fastpose
