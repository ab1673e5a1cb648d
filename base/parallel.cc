#include "base/parallel.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace keelson {
namespace {

struct Progress {
  NumberedWork work;
  size_t next = 0, count = 0, workers = 0;
  absl::Status first_error;
  AsyncEvent done;

  void Fail(absl::Status status) {
    if (first_error.ok()) first_error = std::move(status);
    next = count;
  }
};

// A worker's place in the count. Its end is counted however the worker ends: a scope that closes may drop the
// task before its first line.
class Place {
 public:
  explicit Place(std::shared_ptr<Progress> progress) : progress_(std::move(progress)) {}
  ~Place() {
    if (!finished_) progress_->Fail(absl::CancelledError("stopped meanwhile"));
    if (--progress_->workers == 0) progress_->done.Set();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  Progress& progress() const { return *progress_; }
  void Finish() { finished_ = true; }

 private:
  const std::shared_ptr<Progress> progress_;
  bool finished_ = false;
};

Task<void> Worker(std::shared_ptr<Place> place) {
  Progress& progress = place->progress();
  while (progress.next < progress.count) {
    Task<absl::Status> one = progress.work(progress.next++);
    absl::Status status = co_await std::move(one);
    if (!status.ok()) progress.Fail(std::move(status));
  }
  place->Finish();
}

// Stops the workers when the caller goes away.
class Caller {
 public:
  explicit Caller(std::shared_ptr<Progress> progress) : progress_(std::move(progress)) {}
  ~Caller() { progress_->next = progress_->count; }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

 private:
  const std::shared_ptr<Progress> progress_;
};

}  // namespace

Task<absl::Status> InParallel(Scope* scope, size_t limit, size_t count, NumberedWork work) {
  if (count == 0) co_return absl::OkStatus();
  auto progress = std::make_shared<Progress>();
  progress->work = std::move(work);
  progress->count = count;
  progress->workers = std::min(limit, count);
  Caller caller(progress);
  for (size_t i = progress->workers; i > 0; --i) {
    scope->Spawn("in parallel", Worker(std::make_shared<Place>(progress)));
  }
  Task<void> wait = progress->done.Wait();
  co_await std::move(wait);
  co_return progress->first_error;
}

}  // namespace keelson
