// Pulling: manifest, configuration, layers; each layer is fetched once whoever waits for it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstdio>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/store.h"

namespace keelson::images {
namespace {

constexpr int kMaxLayerTries = 3;  // with another server each time

std::string PullKey(const Reference& reference, const PullOptions& options) {
  std::string key = StrCat(reference.ToString(), options.pinned ? "|pinned" : "");
  if (options.credentials.has_value()) {
    const RegistryCredentials& c = *options.credentials;
    StrAppend(&key, "|",
              DigestOf(StrCat(c.username, "\n", c.password, "\n", c.identity_token, "\n", c.registry_token)));
  }
  return key;
}

class SlotGuard {
 public:
  explicit SlotGuard(Semaphore* semaphore) : semaphore_(semaphore) {}
  SlotGuard(const SlotGuard&) = delete;
  SlotGuard& operator=(const SlotGuard&) = delete;
  ~SlotGuard() { semaphore_->Release(); }

 private:
  Semaphore* semaphore_;
};

// However the writing task ends, the thread that reads is told.
class PipeWriterGuard {
 public:
  explicit PipeWriterGuard(std::shared_ptr<BytePipe> pipe) : pipe_(std::move(pipe)) {}
  PipeWriterGuard(const PipeWriterGuard&) = delete;
  PipeWriterGuard& operator=(const PipeWriterGuard&) = delete;
  ~PipeWriterGuard() { pipe_->CloseWrite(absl::CancelledError("the download was given up")); }

 private:
  std::shared_ptr<BytePipe> pipe_;
};

// Makes DIR/diff and fills it. On an unpacking thread.
absl::Status UnpackInto(const std::string& temp_dir, ByteSource* source, ByteBudget* budget,
                        UnpackOptions options, bool keep_blob, UnpackedLayer* out) {
  RETURN_IF_ERROR(MakeDirs(temp_dir + "/diff", 0755));
  ASSIGN_OR_RETURN(Fd root, OpenFile(temp_dir + "/diff", O_RDONLY | O_DIRECTORY));
  if (::fchmod(root.get(), 0755) != 0) return ErrnoStatus(errno, "chmod");
  Fd blob;
  if (keep_blob) {
    ASSIGN_OR_RETURN(blob, OpenFile(temp_dir + "/blob", O_WRONLY | O_CREAT | O_EXCL, 0644));
    options.save_fd = blob.get();
  }
  ASSIGN_OR_RETURN(*out, UnpackLayer(source, root.get(), budget, options));
  return absl::OkStatus();
}

// The last steps of a layer, in the pool: attributes from below, its record, its place.
absl::Status PlaceLayer(const StoreDir& dir, const std::string& temp, const LayerRecord& layer,
                        const std::vector<std::string>& implicit_dirs,
                        const std::vector<std::string>& lower_chain_ids, bool keep_blob) {
  std::string temp_dir = dir.sub("tmp/" + temp);
  if (!implicit_dirs.empty()) {
    ASSIGN_OR_RETURN(Fd root, OpenFile(temp_dir + "/diff", O_RDONLY | O_DIRECTORY));
    std::vector<Fd> fds;
    std::vector<int> lower;
    for (auto it = lower_chain_ids.rbegin(); it != lower_chain_ids.rend(); ++it) {
      ASSIGN_OR_RETURN(Fd fd, OpenFile(dir.layer_diff(*it), O_RDONLY | O_DIRECTORY));
      lower.push_back(fd.get());
      fds.push_back(std::move(fd));
    }
    RETURN_IF_ERROR(CopyImplicitDirs(root.get(), implicit_dirs, lower, /*set_owner=*/::geteuid() == 0));
  }
  RETURN_IF_ERROR(WriteFileAtomic(temp_dir + "/layer.json", EncodeLayer(layer), 0644, /*durable=*/false));
  if (keep_blob && ::rename((temp_dir + "/blob").c_str(), dir.blob(layer.digest).c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("rename blob ", layer.digest));
  }
  if (::rename(temp_dir.c_str(), dir.layer(layer.chain_id).c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("rename layer ", layer.chain_id));
  }
  return absl::OkStatus();
}

}  // namespace

// ---- callers of Pull ----

struct PullWaiter {
  PullWaiter(Store* store_in, std::shared_ptr<PullJob> job_in, uint64_t listener_in)
      : store(store_in), job(std::move(job_in)), listener(listener_in) {
    ++job->waiters;
  }
  PullWaiter(const PullWaiter&) = delete;
  PullWaiter& operator=(const PullWaiter&) = delete;
  ~PullWaiter() { store->LeavePull(job, listener); }

  Store* store;
  std::shared_ptr<PullJob> job;
  uint64_t listener;
};

// However the task of a job ends, those who wait are told.
struct PullEnd {
  PullEnd(Store* store_in, std::shared_ptr<PullJob> job_in) : store(store_in), job(std::move(job_in)) {}
  PullEnd(const PullEnd&) = delete;
  PullEnd& operator=(const PullEnd&) = delete;
  ~PullEnd() {
    store->LeaveLayers(job.get());
    auto it = store->pulls_.find(job->key);
    if (it != store->pulls_.end() && it->second == job) store->pulls_.erase(it);
    job->done.Set();
  }
  Store* store;
  std::shared_ptr<PullJob> job;
};

struct LayerEnd {
  LayerEnd(Store* store_in, std::shared_ptr<LayerJob> job_in) : store(store_in), job(std::move(job_in)) {}
  LayerEnd(const LayerEnd&) = delete;
  LayerEnd& operator=(const LayerEnd&) = delete;
  ~LayerEnd() {
    auto it = store->layer_jobs_.find(job->chain_id);
    if (it != store->layer_jobs_.end() && it->second == job) store->layer_jobs_.erase(it);
    job->pipe.reset();
    job->lower.reset();
    job->done.Set();
  }
  Store* store;
  std::shared_ptr<LayerJob> job;
};

void Store::LeavePull(const std::shared_ptr<PullJob>& job, uint64_t listener) {
  job->listeners.erase(listener);
  if (--job->waiters > 0 || job->done.is_set()) return;
  // Nobody waits any more.
  job->cancelled = true;
  auto it = pulls_.find(job->key);
  if (it != pulls_.end() && it->second == job) pulls_.erase(it);
  LeaveLayers(job.get());
}

Task<absl::StatusOr<std::string>> Store::Pull(std::string text, PullOptions options) {
  auto reference = Reference::Parse(text);
  if (!reference.ok()) co_return reference.status();
  std::string key = PullKey(*reference, options);
  std::shared_ptr<PullJob>& slot = pulls_[key];
  bool fresh = slot == nullptr;
  if (fresh) {
    slot = std::make_shared<PullJob>();
    slot->reference = *reference;
    slot->key = key;
    slot->options = options;
  }
  std::shared_ptr<PullJob> job = slot;
  uint64_t listener = next_listener_++;
  if (options.on_progress) job->listeners[listener] = options.on_progress;
  PullWaiter waiter(this, job, listener);
  if (fresh) scope_.Spawn("pull image", RunPull(job));
  Task<void> wait = job->done.Wait();
  co_await std::move(wait);
  if (!job->result.ok()) {
    co_return Annotate(job->result.status(), StrCat("pull image ", job->reference.ToString()));
  }
  co_return job->result;
}

Task<void> Store::RunPull(std::shared_ptr<PullJob> job) {
  PullEnd end(this, job);
  job->result = absl::CancelledError("the image store is closing");
  Task<absl::StatusOr<std::string>> pull = PullImage(job);
  absl::StatusOr<std::string> result = co_await std::move(pull);
  job->result = std::move(result);
}

// ---- manifest and configuration ----

Task<absl::StatusOr<Store::Resolved>> Store::Resolve(std::shared_ptr<PullJob> job,
                                                     std::shared_ptr<RegistrySession> session) {
  Resolved out;
  std::string object = job->reference.object();
  std::set<std::string> seen;
  uint64_t expected_bytes = 0;
  for (int depth = 0;; ++depth) {
    Task<absl::StatusOr<FetchedManifest>> fetch = session->FetchManifest(object);
    absl::StatusOr<FetchedManifest> fetched = co_await std::move(fetch);
    if (!fetched.ok()) co_return fetched.status();
    if (depth == 0) out.root_digest = fetched->digest;
    if (depth > 0 && fetched->bytes.size() != expected_bytes) {
      co_return absl::DataLossError(StrCat("manifest ", object, ": ", fetched->bytes.size(),
                                           " bytes, the index says ", expected_bytes));
    }
    auto parsed = ParseManifest(fetched->bytes, fetched->content_type);
    if (!parsed.ok()) co_return Annotate(parsed.status(), StrCat("manifest ", fetched->digest));
    if (out.checkpoint_of.empty()) out.checkpoint_of = std::move(parsed->checkpoint_of);
    if (!parsed->is_index) {
      out.manifest = std::move(parsed->manifest);
      out.manifest_digest = std::move(fetched->digest);
      out.manifest_json = std::move(fetched->bytes);
      co_return std::move(out);
    }
    if (!seen.insert(fetched->digest).second) {
      co_return absl::InvalidArgumentError(StrCat("index ", fetched->digest, " contains itself"));
    }
    if (depth + 1 >= kMaxIndexDepth) {
      co_return absl::ResourceExhaustedError(
          StrCat("indexes nested deeper than ", kMaxIndexDepth, " levels"));
    }
    auto entry = ChoosePlatform(parsed->entries, platform_);
    if (!entry.ok()) co_return entry.status();
    object = entry->digest;
    expected_bytes = entry->size_bytes;
  }
}

Task<absl::StatusOr<std::string>> Store::FetchConfig(std::shared_ptr<RegistrySession> session,
                                                     Descriptor config) {
  if (config.size_bytes > oci::kMaxImageConfigBytes) {
    co_return absl::ResourceExhaustedError(StrCat("configuration of ", config.size_bytes,
                                                  " bytes, over the limit of ", oci::kMaxImageConfigBytes));
  }
  if (blobs_.count(config.digest) != 0) {
    using Result = absl::StatusOr<std::string>;
    absl::AnyInvocable<Result()> work = [root = dir_.root(), digest = config.digest] {
      return StoreDir(root).ReadBlob(digest, oci::kMaxImageConfigBytes);
    };
    Task<Result> read = env_.Blocking<Result>(std::move(work));
    Result bytes = co_await std::move(read);
    if (bytes.ok()) co_return std::move(bytes);
  }
  for (int attempt = 0;; ++attempt) {
    auto open = session->OpenBlob(config.digest, config.size_bytes);
    auto blob = co_await std::move(open);
    if (!blob.ok()) co_return Annotate(blob.status(), "configuration");
    std::string bytes;
    absl::Status status;
    while (true) {
      Task<absl::StatusOr<std::string>> read = (*blob)->Read();
      absl::StatusOr<std::string> piece = co_await std::move(read);
      status = piece.status();
      if (!status.ok() || piece->empty()) break;
      bytes += *piece;
    }
    if (status.ok() && DigestOf(bytes) != config.digest) {
      status = absl::DataLossError(
          StrCat("configuration ", config.digest, ": its bytes have digest ", DigestOf(bytes)));
    }
    if (status.ok()) co_return std::move(bytes);
    bool again =
        absl::IsDataLoss(status) && attempt + 1 < kMaxLayerTries && session->Distrust((*blob)->source());
    if (!again) co_return status;
  }
}

absl::StatusOr<oci::ImageConfig> Store::CheckConfig(const std::string& json) const {
  ASSIGN_OR_RETURN(oci::ImageConfig config, oci::ParseImageConfig(json));
  return config;
}

absl::Status Store::Describe(const Manifest& manifest, std::string config_json, StoredImage* image) const {
  ASSIGN_OR_RETURN(oci::ImageConfig config, CheckConfig(config_json));
  if (!config.os.empty() && !config.architecture.empty()) {
    Descriptor self;
    self.platform = {config.os, config.architecture, config.variant};
    RETURN_IF_ERROR(ChoosePlatform({self}, platform_).status());
  }
  if (config.diff_ids.size() != manifest.layers.size()) {
    return absl::InvalidArgumentError(StrCat("the configuration names ", config.diff_ids.size(),
                                             " layers, the manifest has ", manifest.layers.size()));
  }
  std::vector<std::string> chain_ids = ChainIdsOf(config.diff_ids);
  image->config_bytes = config_json.size();
  image->record.size_bytes = config_json.size();
  image->layers.clear();
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const Descriptor& from = manifest.layers[i];
    if (!IsDigest(config.diff_ids[i])) {
      return absl::InvalidArgumentError(StrCat("rootfs.diff_ids[", i, "]: not a sha256 digest"));
    }
    image->layers.push_back(
        {from.digest, from.size_bytes, from.media_type, config.diff_ids[i], chain_ids[i]});
    image->record.size_bytes += from.size_bytes;
  }
  if (image->record.size_bytes > options_.max_image_bytes) {
    return absl::ResourceExhaustedError(StrCat("the image has ", image->record.size_bytes,
                                               " bytes, over the limit of ", options_.max_image_bytes));
  }
  image->record.created_at = CreatedAt(config_json);
  image->record.config = std::move(config);
  image->record.config_json = std::move(config_json);
  return absl::OkStatus();
}

Task<absl::StatusOr<std::string>> Store::PullImage(std::shared_ptr<PullJob> job) {
  RegistryOptions registry;
  registry.registries_dir = options_.registries_dir;
  registry.auth_file = options_.auth_file;
  registry.proxy = ProxySettings::FromEnvironment();
  registry.credentials = job->options.credentials;
  registry.no_progress_timeout = options_.no_progress_timeout;
  registry.min_backoff = options_.min_retry_backoff;
  auto open = RegistrySession::Open(&env_, job->reference, std::move(registry));
  auto session = co_await std::move(open);
  if (!session.ok()) co_return session.status();
  Task<absl::StatusOr<Resolved>> resolve = Resolve(job, *session);
  absl::StatusOr<Resolved> resolved = co_await std::move(resolve);
  if (!resolved.ok()) co_return resolved.status();
  StoredImage image;
  image.record.id = resolved->manifest.config.digest;
  image.record.pinned = job->options.pinned;
  image.record.checkpoint_of = resolved->checkpoint_of;
  image.manifest_digest = resolved->manifest_digest;
  image.manifest_bytes = resolved->manifest_json.size();
  if (job->reference.digest.empty()) image.record.repo_tags = {job->reference.ToString()};
  image.record.repo_digests = {StrCat(job->reference.Name(), "@", resolved->root_digest)};
  Holds holds(this);
  holds.AddBlob(image.manifest_digest);
  holds.AddBlob(image.record.id);
  Task<absl::StatusOr<std::string>> fetch_config = FetchConfig(*session, resolved->manifest.config);
  absl::StatusOr<std::string> config_json = co_await std::move(fetch_config);
  if (!config_json.ok()) co_return config_json.status();
  CO_RETURN_IF_ERROR_SYNC(Describe(resolved->manifest, *config_json, &image));
  std::vector<std::shared_ptr<LayerJob>> sources;
  auto budget = std::make_shared<ByteBudget>(options_.max_image_bytes);
  for (const StoredLayer& layer : image.layers) {
    holds.AddLayer(layer.chain_id);
    holds.AddBlob(layer.digest);
    auto source = std::make_shared<LayerJob>();
    source->session = *session;
    source->digest = layer.digest;
    source->size_bytes = layer.size_bytes;
    source->budget = budget;
    sources.push_back(std::move(source));
  }
  Task<absl::Status> ensure = EnsureLayers(&image, job, std::move(sources));
  absl::Status status = co_await std::move(ensure);
  if (!status.ok()) co_return status;
  Task<absl::Status> put_manifest = PutBlob(image.manifest_digest, resolved->manifest_json);
  status = co_await std::move(put_manifest);
  if (!status.ok()) co_return status;
  Task<absl::Status> put_config = PutBlob(image.record.id, *config_json);
  status = co_await std::move(put_config);
  if (!status.ok()) co_return status;
  if (job->cancelled) co_return absl::CancelledError("nobody waits for it any more");
  std::string id = image.record.id;
  Task<absl::Status> commit = Commit(std::move(image));
  status = co_await std::move(commit);
  if (!status.ok()) co_return status;
  LogInfo("image pulled", {{"image", job->reference.ToString()}, {"id", id}});
  co_return id;
}

// ---- layers ----

std::shared_ptr<LayerJob> Store::JoinLayer(const StoredImage& image, size_t index,
                                           std::shared_ptr<LayerJob> source, PullJob* job) {
  const StoredLayer& layer = image.layers[index];
  if (layers_.count(layer.chain_id) != 0) return nullptr;
  auto running = layer_jobs_.find(layer.chain_id);
  bool fresh = running == layer_jobs_.end() || running->second->cancelled;
  std::shared_ptr<LayerJob> out = fresh ? source : running->second;
  if (job != nullptr) out->listeners.insert(job);
  ++out->interested;
  if (fresh) {
    source->chain_id = layer.chain_id;
    source->diff_id = layer.diff_id;
    for (size_t i = 0; i < index; ++i) source->lower_chain_ids.push_back(image.layers[i].chain_id);
    if (index > 0) {
      auto lower = layer_jobs_.find(image.layers[index - 1].chain_id);
      if (lower != layer_jobs_.end()) source->lower = lower->second;
    }
    layer_jobs_[layer.chain_id] = source;
    // It may have ended when Spawn returns.
    scope_.Spawn("pull layer", RunLayer(source));
  }
  return out;
}

void Store::LeaveLayers(PullJob* job) {
  for (const std::shared_ptr<LayerJob>& layer : job->layers) {
    layer->listeners.erase(job);
    if (--layer->interested > 0 || layer->done.is_set()) continue;
    layer->cancelled = true;
    if (layer->pipe != nullptr) layer->pipe->CloseWrite(absl::CancelledError("nobody waits for it any more"));
  }
  job->layers.clear();
}

Task<absl::Status> Store::EnsureLayers(StoredImage* image, std::shared_ptr<PullJob> job,
                                       std::vector<std::shared_ptr<LayerJob>> sources) {
  std::vector<std::shared_ptr<LayerJob>> joined;
  for (size_t i = 0; i < image->layers.size(); ++i) {
    std::shared_ptr<LayerJob> layer = JoinLayer(*image, i, sources[i], job.get());
    joined.push_back(layer);
    if (layer != nullptr) job->layers.push_back(layer);
    // All at once, so that whoever draws a bar knows the whole.
    uint64_t size = image->layers[i].size_bytes;
    PullProgress progress{image->layers[i].digest, layer == nullptr ? size : layer->done_bytes, size};
    for (const auto& [id, listener] : job->listeners) listener(progress);
  }
  for (size_t i = 0; i < joined.size(); ++i) {
    std::shared_ptr<LayerJob> layer = joined[i];
    if (layer != nullptr) {
      Task<void> wait = layer->done.Wait();
      co_await std::move(wait);
      if (job->cancelled) co_return absl::CancelledError("nobody waits for it any more");
      // Somebody else's try, of this layer or of one below it: with our credentials it may do better.
      if (!layer->status.ok() && (layer != sources[i] || layer->lower_failed)) {
        auto again = std::make_shared<LayerJob>();
        again->session = sources[i]->session;
        again->dir = sources[i]->dir;
        again->file = sources[i]->file;
        again->digest = sources[i]->digest;
        again->size_bytes = sources[i]->size_bytes;
        again->budget = sources[i]->budget;
        layer = JoinLayer(*image, i, std::move(again), job.get());
        if (layer != nullptr) {
          job->layers.push_back(layer);
          Task<void> wait_again = layer->done.Wait();
          co_await std::move(wait_again);
        }
      }
      if (layer != nullptr && !layer->status.ok()) co_return layer->status;
    }
    auto on_disk = layers_.find(image->layers[i].chain_id);
    if (on_disk == layers_.end()) co_return absl::InternalError("a layer is gone again");
    if (image->layers[i].digest.empty()) {
      image->layers[i].digest = on_disk->second.digest;
      image->layers[i].size_bytes = on_disk->second.blob_bytes;
      image->layers[i].media_type = kOciLayer;
      if (on_disk->second.compressed) image->layers[i].media_type += "+gzip";
    }
  }
  co_return absl::OkStatus();
}

Task<void> Store::RunLayer(std::shared_ptr<LayerJob> job) {
  LayerEnd end(this, job);
  job->status = absl::CancelledError("the image store is closing");
  Task<absl::Status> fetch = FetchLayer(job);
  absl::Status status = co_await std::move(fetch);
  job->status = std::move(status);
}

Task<absl::Status> Store::FetchLayer(std::shared_ptr<LayerJob> job) {
  std::string name = job->digest.empty() ? job->file : job->digest;
  std::string temp;
  UnpackedLayer unpacked;
  {
    Task<void> acquire = unpack_slots_.Acquire();
    co_await std::move(acquire);
    SlotGuard slot(&unpack_slots_);
    for (int attempt = 0;; ++attempt) {
      if (job->cancelled) co_return absl::CancelledError("nobody waits for it any more");
      temp = TempName();
      size_t source = 0;
      Task<absl::Status> unpack = UnpackOnce(job, temp, &source, &unpacked);
      absl::Status status = co_await std::move(unpack);
      if (status.ok()) break;
      Trash(dir_.sub("tmp/" + temp));
      bool again = absl::IsDataLoss(status) && attempt + 1 < kMaxLayerTries && job->session != nullptr &&
                   job->session->Distrust(source);
      if (!again) co_return Annotate(status, StrCat("layer ", name));
      LogWarning("a registry sent a wrong layer, trying the next", {{"layer", name}, {"error", status}});
    }
  }
  Task<absl::Status> finish = FinishLayer(job, temp, std::move(unpacked));
  absl::Status status = co_await std::move(finish);
  if (!status.ok()) {
    Trash(dir_.sub("tmp/" + temp));
    co_return Annotate(status, StrCat("layer ", name));
  }
  co_return absl::OkStatus();
}

boost::asio::thread_pool& Store::UnpackThreads() {
  if (!unpack_threads_.has_value()) {
    unpack_threads_.emplace(static_cast<size_t>(std::max(1, options_.parallel_layers)));
  }
  return *unpack_threads_;
}

struct Store::Unpacking {
  std::unique_ptr<ByteSource> source;
  std::shared_ptr<ByteBudget> budget;
  std::string temp_dir;
  UnpackOptions options;
  bool keep_blob = false;
  UnpackedLayer result;
  absl::Status status;
  AsyncEvent done;
};

Task<absl::Status> Store::UnpackOnce(std::shared_ptr<LayerJob> job, std::string temp, size_t* source,
                                     UnpackedLayer* out) {
  auto work = std::make_shared<Unpacking>();
  work->temp_dir = dir_.sub("tmp/" + temp);
  work->budget = job->budget;
  work->keep_blob = options_.keep_layer_blobs;
  work->options.expected_bytes = job->size_bytes;
  work->options.expected_digest = job->digest;
  work->options.expected_diff_id = job->diff_id;
  work->options.tree.set_owner = ::geteuid() == 0;
  std::unique_ptr<BlobStream> blob;
  std::shared_ptr<BytePipe> pipe;
  std::shared_ptr<Fd> file;
  if (job->session != nullptr) {
    auto open = job->session->OpenBlob(job->digest, job->size_bytes);
    auto opened = co_await std::move(open);
    if (!opened.ok()) co_return opened.status();
    blob = *std::move(opened);
    pipe = std::make_shared<BytePipe>(env_.executor());
    work->source = std::make_unique<PipeSource>(pipe);
    job->pipe = pipe;
    if (job->cancelled) co_return absl::CancelledError("nobody waits for it any more");
  } else {
    auto opened = OpenBeneath(job->dir->get(), job->file, O_RDONLY);
    if (!opened.ok()) co_return opened.status();
    file = std::make_shared<Fd>(*std::move(opened));
    work->source = std::make_unique<FdSource>(file->get());
  }
  boost::asio::post(UnpackThreads(), [work, file, executor = env_.executor()]() mutable {
    work->status = UnpackInto(work->temp_dir, work->source.get(), work->budget.get(), work->options,
                              work->keep_blob, &work->result);
    work->source.reset();
    // The loop's from here on: this thread keeps nothing of it.
    boost::asio::post(executor, [work = std::move(work)] { work->done.Set(); });
  });
  absl::Status pumped;
  if (pipe != nullptr) {
    PipeWriterGuard guard(pipe);
    Task<absl::Status> pump = Pump(job, pipe, blob.get());
    pumped = co_await std::move(pump);
    *source = blob->source();
  }
  Task<void> wait = work->done.Wait();
  co_await std::move(wait);
  job->pipe.reset();
  if (!work->status.ok()) co_return work->status;
  if (!pumped.ok()) co_return pumped;
  *out = std::move(work->result);
  co_return absl::OkStatus();
}

Task<absl::Status> Store::Pump(std::shared_ptr<LayerJob> job, std::shared_ptr<BytePipe> pipe,
                               BlobStream* blob) {
  job->done_bytes = 0;
  while (true) {
    Task<absl::StatusOr<std::string>> read = blob->Read();
    absl::StatusOr<std::string> piece = co_await std::move(read);
    if (!piece.ok()) {
      pipe->CloseWrite(piece.status());
      co_return piece.status();
    }
    if (piece->empty()) break;
    if (job->cancelled) co_return absl::CancelledError("nobody waits for it any more");
    job->done_bytes += piece->size();
    Task<absl::Status> write = pipe->Write(*std::move(piece));
    absl::Status written = co_await std::move(write);
    // The reader has given up and says why itself.
    if (!written.ok()) co_return absl::OkStatus();
    PullProgress progress{job->digest, job->done_bytes, job->size_bytes};
    for (PullJob* pull : job->listeners) {
      for (const auto& [id, listener] : pull->listeners) listener(progress);
    }
  }
  pipe->CloseWrite(absl::OkStatus());
  co_return absl::OkStatus();
}

Task<absl::Status> Store::FinishLayer(std::shared_ptr<LayerJob> job, std::string temp,
                                      UnpackedLayer unpacked) {
  if (job->lower != nullptr) {
    Task<void> wait = job->lower->done.Wait();
    co_await std::move(wait);
    if (!job->lower->status.ok()) {
      job->lower_failed = true;
      co_return Annotate(job->lower->status, "a layer below");
    }
  }
  if (job->cancelled) co_return absl::CancelledError("nobody waits for it any more");
  LayerRecord layer;
  layer.chain_id = job->chain_id;
  layer.diff_id = unpacked.diff_id;
  layer.digest = unpacked.digest;
  layer.blob_bytes = unpacked.blob_bytes;
  layer.compressed = unpacked.compressed;
  layer.usage = unpacked.usage;
  if (layers_.count(layer.chain_id) != 0) {
    Trash(dir_.sub("tmp/" + temp));
    co_return absl::OkStatus();
  }
  bool keep_blob = options_.keep_layer_blobs;
  absl::AnyInvocable<absl::Status()> work = [root = dir_.root(), temp, layer,
                                             implicit = std::move(unpacked.implicit_dirs),
                                             lower = job->lower_chain_ids, keep_blob] {
    return PlaceLayer(StoreDir(root), temp, layer, implicit, lower, keep_blob);
  };
  Task<absl::Status> place = env_.Blocking<absl::Status>(std::move(work));
  absl::Status status = co_await std::move(place);
  if (!status.ok()) co_return status;
  AddLayerOnDisk(layer);
  if (keep_blob) AddBlobOnDisk(layer.digest, layer.blob_bytes);
  // Those who wanted it may have left meanwhile.
  if (job->interested == 0) {
    CollectLayer(layer.chain_id);
    CollectBlob(layer.digest);
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::images
