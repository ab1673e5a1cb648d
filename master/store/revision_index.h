// RevisionIndex: which revision of which key is where. Pure memory, no values: LogStore decides conflicts on
// it and finds the rows a read needs. Holds the keys that live or have history, and a chain of revisions back
// to the compacted one.
//
// Revisions up to committed() are durable; those after it are pending and undone by Rollback().
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "master/store/store.h"

namespace keelson::master {

// One row of the log. `value` is null when `deleted`.
struct LogRow {
  Revision revision = 0;
  Revision create_revision = 0;
  Revision prev_revision = 0;  // the key's row before this one, be it a deletion; 0: none was kept
  bool deleted = false;
  std::string key;
  Bytes value;
};

class RevisionIndex {
 public:
  struct Entry {
    Revision create_revision = 0;
    Revision mod_revision = 0;
    bool deleted = false;
  };
  // What a reader needs to know of one revision in the history.
  struct Change {
    Revision revision = 0;
    EventType type = EventType::kCreated;
  };
  struct Page {
    std::vector<Revision> rows;
    bool more = false;
    int64_t remaining = 0;
  };

  // Newest state of the key, pending writes included; null when unknown. A deleted key has deleted set.
  const Entry* Find(std::string_view key) const;
  // Enters a write and returns its row without the value. The caller has decided that it may happen.
  LogRow Add(std::string_view key, bool deleted);
  // Revisions up to `revision` are durable now.
  void Commit(Revision revision);
  // Undoes all pending writes.
  void Rollback();

  // Row that held the key's value at `revision` (<= committed, >= compacted); 0: it did not live.
  Revision RowAt(std::string_view key, Revision revision) const;
  Page List(std::string_view prefix, std::string_view start_after, size_t limit, Revision revision) const;
  // Committed changes after `after` (>= compacted) of keys with the prefix.
  std::vector<Change> ChangesAfter(Revision after, std::string_view prefix) const;
  // False once the revision was compacted away from the chain.
  bool InHistory(Revision revision) const { return revision > compacted_; }

  // The rows that compaction up to `target` removes, as a function of the committed history.
  std::vector<Revision> PlanCompaction(Revision target) const;
  void ApplyCompaction(Revision target);

  // Loading: first Start(), then the rows in order of revision. A row that does not fit what came before is
  // DataLoss.
  void Start(Revision compacted);
  absl::Status Load(const LogRow& row);

  Revision committed() const { return committed_; }
  Revision compacted() const { return compacted_; }
  Revision last() const { return compacted_ + static_cast<Revision>(history_.size()); }
  size_t keys() const { return keys_.size(); }

 private:
  using KeyMap = std::map<std::string, Entry, std::less<>>;
  struct Link {
    KeyMap::iterator key;
    Revision prev = 0;
    bool created = false, deleted = false;
  };
  struct Undo {
    KeyMap::iterator key;
    bool existed = false;
    Entry before;
  };
  const Link& LinkOf(Revision revision) const {
    return history_[static_cast<size_t>(revision - compacted_ - 1)];
  }
  Revision RowAt(const Entry& entry, Revision revision) const;

  KeyMap keys_;
  std::deque<Link> history_;  // one per revision after compacted_
  std::deque<Undo> pending_;  // one per revision after committed_
  Revision committed_ = kFirstRevision;
  Revision compacted_ = kFirstRevision;
};

}  // namespace keelson::master
