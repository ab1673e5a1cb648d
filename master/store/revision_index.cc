#include "master/store/revision_index.h"

#include "base/log.h"
#include "base/strings.h"

namespace keelson::master {

const RevisionIndex::Entry* RevisionIndex::Find(std::string_view key) const {
  auto it = keys_.find(key);
  return it == keys_.end() ? nullptr : &it->second;
}

LogRow RevisionIndex::Add(std::string_view key, bool deleted) {
  auto it = keys_.find(key);
  Undo undo;
  undo.existed = it != keys_.end();
  if (!undo.existed) it = keys_.emplace(std::string(key), Entry{0, 0, true}).first;
  undo.key = it;
  undo.before = it->second;
  Entry& entry = it->second;
  KEELSON_CHECK(!(deleted && entry.deleted), "deleting ", key, " which does not live");

  LogRow row;
  row.revision = last() + 1;
  row.prev_revision = entry.mod_revision;
  row.create_revision = entry.deleted ? row.revision : entry.create_revision;
  row.deleted = deleted;
  row.key = std::string(key);
  history_.push_back(Link{it, entry.mod_revision, entry.deleted, deleted});
  pending_.push_back(std::move(undo));
  entry = Entry{row.create_revision, row.revision, deleted};
  return row;
}

void RevisionIndex::Commit(Revision revision) {
  KEELSON_CHECK(revision >= committed_ && revision <= last(), "commit of ", revision, " after ", committed_);
  for (; committed_ < revision; ++committed_) pending_.pop_front();
}

void RevisionIndex::Rollback() {
  while (!pending_.empty()) {
    Undo& undo = pending_.back();
    // A compaction may meanwhile have taken the deletion this write followed.
    bool gone = undo.before.deleted && undo.before.mod_revision <= compacted_;
    if (!undo.existed || gone) {
      keys_.erase(undo.key);
    } else {
      undo.key->second = undo.before;
    }
    pending_.pop_back();
    history_.pop_back();
  }
}

Revision RevisionIndex::RowAt(const Entry& entry, Revision revision) const {
  Revision row = entry.mod_revision;
  while (row > revision) {
    const Link& link = LinkOf(row);
    // What came before a creation is a deletion, and compacted ones have no row.
    if (link.prev == 0 || (link.created && link.prev <= compacted_)) return 0;
    row = link.prev;
  }
  if (row > compacted_ && LinkOf(row).deleted) return 0;
  return row;
}

Revision RevisionIndex::RowAt(std::string_view key, Revision revision) const {
  auto it = keys_.find(key);
  return it == keys_.end() ? 0 : RowAt(it->second, revision);
}

RevisionIndex::Page RevisionIndex::List(std::string_view prefix, std::string_view start_after, size_t limit,
                                        Revision revision) const {
  Page page;
  auto it = start_after < prefix ? keys_.lower_bound(prefix) : keys_.upper_bound(start_after);
  for (; it != keys_.end() && it->first.starts_with(prefix); ++it) {
    Revision row = RowAt(it->second, revision);
    if (row == 0) continue;
    if (limit > 0 && page.rows.size() == limit) {
      page.more = true;
      ++page.remaining;
    } else {
      page.rows.push_back(row);
    }
  }
  return page;
}

std::vector<RevisionIndex::Change> RevisionIndex::ChangesAfter(Revision after,
                                                               std::string_view prefix) const {
  std::vector<Change> changes;
  for (Revision revision = std::max(after, compacted_) + 1; revision <= committed_; ++revision) {
    const Link& link = LinkOf(revision);
    if (!link.key->first.starts_with(prefix)) continue;
    Change change;
    change.revision = revision;
    change.type = link.deleted   ? EventType::kDeleted
                  : link.created ? EventType::kCreated
                                 : EventType::kModified;
    changes.push_back(change);
  }
  return changes;
}

std::vector<Revision> RevisionIndex::PlanCompaction(Revision target) const {
  KEELSON_CHECK(target <= committed_, "compaction to ", target, " past ", committed_);
  std::vector<Revision> rows;
  for (Revision revision = compacted_ + 1; revision <= target; ++revision) {
    const Link& link = LinkOf(revision);
    // The row before a creation is a deletion: it went when its own revision was compacted.
    if (link.prev != 0 && !link.created) rows.push_back(link.prev);
    if (link.deleted) rows.push_back(revision);
  }
  return rows;
}

void RevisionIndex::ApplyCompaction(Revision target) {
  while (compacted_ < target) {
    ++compacted_;
    Link& link = history_.front();
    const Entry& entry = link.key->second;
    if (link.deleted && entry.mod_revision == compacted_) keys_.erase(link.key);
    history_.pop_front();
  }
}

void RevisionIndex::Start(Revision compacted) {
  keys_.clear();
  history_.clear();
  pending_.clear();
  compacted_ = committed_ = compacted;
}

absl::Status RevisionIndex::Load(const LogRow& row) {
  auto it = keys_.find(row.key);
  if (row.revision <= compacted_) {
    if (row.deleted || it != keys_.end() || row.create_revision > row.revision) {
      return absl::DataLossError(
          StrCat("revision ", row.revision, " (key ", row.key, ") should have been compacted away"));
    }
    keys_.emplace(row.key, Entry{row.create_revision, row.revision, false});
    return absl::OkStatus();
  }
  if (row.revision != committed_ + 1) {
    return absl::DataLossError(
        StrCat("revisions ", committed_ + 1, " to ", row.revision - 1, " are missing"));
  }
  bool lived = it != keys_.end() && !it->second.deleted;
  Revision before = it == keys_.end() ? 0 : it->second.mod_revision;
  // A deletion before this row may have been compacted.
  bool chained = row.prev_revision == before || (it == keys_.end() && row.prev_revision <= compacted_);
  bool created_right = row.create_revision == (lived ? it->second.create_revision : row.revision);
  if (!chained || !created_right || (row.deleted && !lived)) {
    return absl::DataLossError(StrCat("revision ", row.revision, " (key ", row.key,
                                      ") does not continue the key's history (previous revision ",
                                      row.prev_revision, ", found ", before, ")"));
  }
  if (it == keys_.end()) it = keys_.emplace(row.key, Entry{}).first;
  history_.push_back(Link{it, before, !lived, row.deleted});
  it->second = Entry{row.create_revision, row.revision, row.deleted};
  ++committed_;
  return absl::OkStatus();
}

}  // namespace keelson::master
