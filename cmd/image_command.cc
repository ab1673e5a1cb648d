#include "cmd/image_command.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/env.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/remote/remote_image_files.h"
#include "cri/remote/remote_runtime.h"

namespace keelson {
namespace {

namespace v1 = ::runtime::v1;

constexpr size_t kShortIdDigits = 12;
constexpr size_t kBarCells = 24;
constexpr absl::Duration kRedraw = absl::Milliseconds(100);

struct ImageFlags {
  std::string root, endpoint, images_dir, registries_dir, auth_file;
  std::string username, password_file;
  std::vector<std::string> names;
  std::string name, path;
  std::string format = "oci";
  bool quiet = false, full_ids = false, pin = false;
  bool store_only = false;  // a store is named and no server: that store is meant, whoever answers elsewhere
};

// What a subcommand works with: a server that answers, or else the store itself.
struct Access {
  std::unique_ptr<cri::RemoteRuntime> remote;
  std::unique_ptr<cri::ImageFilesService> files;  // with `remote`
  std::unique_ptr<images::ImageStore> store;
};

std::string TrimmedId(const std::string& id) {
  size_t colon = id.find(':');
  return id.substr(colon == std::string::npos ? 0 : colon + 1, kShortIdDigits);
}

bool Answers(const std::string& socket_path) {
  sockaddr_un address{};
  if (socket_path.size() >= sizeof address.sun_path) return false;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd.valid() && ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

absl::StatusOr<std::unique_ptr<images::ImageStore>> OpenStore(Env& env, const ImageFlags& flags) {
  images::ImageStoreOptions options;
  options.root_dir = flags.images_dir;
  options.auth_file = flags.auth_file;
  if (::access(flags.registries_dir.c_str(), F_OK) == 0) options.registries_dir = flags.registries_dir;
  auto store = images::ImageStore::Open(env, options);
  if (absl::IsFailedPrecondition(store.status())) {
    return Annotate(store.status(), "a `keelson cri` holds it: give its --endpoint, or stop it first");
  }
  return store;
}

void Complete(const Env& env, ImageFlags* flags) {
  const Paths& paths = const_cast<Env&>(env).paths();
  flags->store_only = !flags->images_dir.empty() && flags->endpoint.empty();
  if (flags->endpoint.empty()) flags->endpoint = StrCat("unix://", paths.run_dir, "/cri/cri.sock");
  if (flags->images_dir.empty()) flags->images_dir = paths.state_dir + "/cri/images";
  if (flags->registries_dir.empty()) flags->registries_dir = paths.etc_dir + "/certs.d";
}

absl::StatusOr<Access> OpenAccess(Env& env, const ImageFlags& flags) {
  Access out;
  ASSIGN_OR_RETURN(std::string socket_path, cri::SocketPathOf(flags.endpoint));
  if (!flags.store_only && Answers(socket_path)) {
    cri::RemoteOptions options;
    options.endpoint = flags.endpoint;
    ASSIGN_OR_RETURN(out.remote, cri::RemoteRuntime::Create(env, options));
    ASSIGN_OR_RETURN(out.files, cri::ConnectImageFiles(env, flags.endpoint));
    return out;
  }
  ASSIGN_OR_RETURN(out.store, OpenStore(env, flags));
  return out;
}

// ---- progress ----

class ProgressBar {
 public:
  explicit ProgressBar(Clock& clock) : clock_(clock), shown_(::isatty(STDERR_FILENO) == 1) {}
  ~ProgressBar() {
    if (drawn_) std::fputs("\r\033[K", stderr);
  }
  void Add(const images::PullProgress& progress) {
    meter_.Add(progress);
    if (!shown_ || (drawn_ && clock_.Monotonic() - last_ < kRedraw)) return;
    winsize size{};
    size_t columns = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    std::fprintf(stderr, "\r\033[K%s", meter_.Line(columns - 1).c_str());
    std::fflush(stderr);
    drawn_ = true;
    last_ = clock_.Monotonic();
  }

 private:
  Clock& clock_;
  const bool shown_;
  bool drawn_ = false;
  absl::Duration last_;
  PullMeter meter_;
};

// ---- the subcommands ----

absl::StatusOr<std::optional<images::RegistryCredentials>> Credentials(const ImageFlags& flags) {
  if (flags.username.empty()) return std::optional<images::RegistryCredentials>();
  images::RegistryCredentials out;
  out.username = flags.username;
  constexpr size_t kMaxPasswordBytes = 64 << 10;
  ASSIGN_OR_RETURN(out.password, ReadFile(flags.password_file, kMaxPasswordBytes));
  while (!out.password.empty() && (out.password.back() == '\n' || out.password.back() == '\r')) {
    out.password.pop_back();
  }
  return std::optional<images::RegistryCredentials>(std::move(out));
}

Task<absl::StatusOr<std::string>> PullOne(Env* env, Access* access, std::string name,
                                          std::optional<images::RegistryCredentials> credentials, bool pin) {
  if (access->remote != nullptr) {
    if (pin) co_return absl::UnimplementedError("--pin: the CRI server decides itself what is pinned");
    v1::PullImageRequest request;
    request.mutable_image()->set_image(name);
    if (credentials.has_value()) {
      request.mutable_auth()->set_username(credentials->username);
      request.mutable_auth()->set_password(credentials->password);
    }
    Task<absl::StatusOr<v1::PullImageResponse>> call = access->remote->images().PullImage(std::move(request));
    absl::StatusOr<v1::PullImageResponse> response = co_await std::move(call);
    if (!response.ok()) co_return response.status();
    co_return response->image_ref();
  }
  ProgressBar bar(env->clock());
  images::PullOptions options;
  options.credentials = std::move(credentials);
  options.pinned = pin;
  options.on_progress = [&bar](const images::PullProgress& progress) { bar.Add(progress); };
  Task<absl::StatusOr<std::string>> pull = access->store->Pull(std::move(name), std::move(options));
  absl::StatusOr<std::string> id = co_await std::move(pull);
  co_return id;
}

Task<absl::Status> Pull(Env* env, Access* access, const ImageFlags* flags) {
  CO_ASSIGN_OR_RETURN_SYNC(std::optional<images::RegistryCredentials> credentials, Credentials(*flags));
  for (const std::string& name : flags->names) {
    Task<absl::StatusOr<std::string>> pull = PullOne(env, access, name, credentials, flags->pin);
    absl::StatusOr<std::string> id = co_await std::move(pull);
    if (!id.ok()) co_return id.status();
    std::printf("%s\n", id->c_str());
  }
  co_return absl::OkStatus();
}

Task<absl::Status> List(Env*, Access* access, const ImageFlags* flags) {
  std::vector<ImageRow> rows;
  if (access->remote != nullptr) {
    Task<absl::StatusOr<v1::ListImagesResponse>> call =
        access->remote->images().ListImages(v1::ListImagesRequest());
    absl::StatusOr<v1::ListImagesResponse> response = co_await std::move(call);
    if (!response.ok()) co_return response.status();
    for (const v1::Image& image : response->images()) {
      const auto& names = image.repo_tags().empty() ? image.repo_digests() : image.repo_tags();
      rows.push_back({{names.begin(), names.end()}, image.id(), image.size(), image.pinned()});
    }
  } else {
    for (const images::ImageRecord* image : access->store->List()) {
      rows.push_back({image->repo_tags.empty() ? image->repo_digests : image->repo_tags, image->id,
                      image->size_bytes, image->pinned});
    }
  }
  if (flags->quiet) {
    for (const ImageRow& row : rows) {
      std::printf("%s\n", flags->full_ids ? row.id.c_str() : TrimmedId(row.id).c_str());
    }
  } else {
    std::fputs(FormatImages(std::move(rows), flags->full_ids).c_str(), stdout);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Remove(Env*, Access* access, const ImageFlags* flags) {
  for (const std::string& name : flags->names) {
    if (access->remote != nullptr) {
      v1::RemoveImageRequest request;
      request.mutable_image()->set_image(name);
      Task<absl::StatusOr<v1::RemoveImageResponse>> call =
          access->remote->images().RemoveImage(std::move(request));
      absl::StatusOr<v1::RemoveImageResponse> response = co_await std::move(call);
      if (!response.ok()) co_return response.status();
    } else {
      if (access->store->Find(name) == nullptr) co_return absl::NotFoundError(StrCat("no image ", name));
      Task<absl::Status> remove = access->store->Remove(name);
      absl::Status status = co_await std::move(remove);
      if (!status.ok()) co_return status;
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Inspect(Env*, Access* access, const ImageFlags* flags) {
  for (const std::string& name : flags->names) {
    if (access->remote != nullptr) {
      v1::ImageStatusRequest request;
      request.mutable_image()->set_image(name);
      request.set_verbose(true);
      Task<absl::StatusOr<v1::ImageStatusResponse>> call =
          access->remote->images().ImageStatus(std::move(request));
      absl::StatusOr<v1::ImageStatusResponse> response = co_await std::move(call);
      if (!response.ok()) co_return response.status();
      if (!response->has_image()) co_return absl::NotFoundError(StrCat("no image ", name));
      std::fputs(response->Utf8DebugString().c_str(), stdout);
      continue;
    }
    const images::ImageRecord* image = access->store->Find(name);
    if (image == nullptr) co_return absl::NotFoundError(StrCat("no image ", name));
    std::printf("id: %s\n", image->id.c_str());
    for (const std::string& tag : image->repo_tags) std::printf("tag: %s\n", tag.c_str());
    for (const std::string& digest : image->repo_digests) std::printf("digest: %s\n", digest.c_str());
    std::printf("size: %s\nplatform: %s/%s\npinned: %s\ncreated: %s\npulled: %s\nlayers: %zu\nconfig: %s\n",
                FormatBytes(image->size_bytes).c_str(), image->config.os.c_str(),
                image->config.architecture.c_str(), image->pinned ? "yes" : "no",
                absl::FormatTime(image->created_at, absl::UTCTimeZone()).c_str(),
                absl::FormatTime(image->pulled_at, absl::UTCTimeZone()).c_str(),
                image->config.diff_ids.size(), image->config_json.c_str());
  }
  co_return absl::OkStatus();
}

// The server has a working directory of its own.
std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

template <class Tags>
void PrintImported(const std::string& id, const Tags& tags) {
  std::printf("%s\n", id.c_str());
  for (const std::string& tag : tags) std::printf("  %s\n", tag.c_str());
}

Task<absl::Status> Import(Env*, Access* access, const ImageFlags* flags) {
  if (access->files != nullptr) {
    cri::files::ImportRequest request;
    request.set_path(AbsolutePath(flags->path));
    CO_ASSIGN_OR_RETURN(cri::files::ImportResponse response, access->files->Import(std::move(request)));
    for (const auto& image : response.images()) PrintImported(image.id(), image.repo_tags());
    co_return absl::OkStatus();
  }
  Task<absl::StatusOr<std::vector<std::string>>> import = access->store->Import(flags->path);
  absl::StatusOr<std::vector<std::string>> ids = co_await std::move(import);
  if (!ids.ok()) co_return ids.status();
  for (const std::string& id : *ids) {
    const images::ImageRecord* image = access->store->Find(id);
    PrintImported(id, image == nullptr ? std::vector<std::string>() : image->repo_tags);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Export(Env*, Access* access, const ImageFlags* flags) {
  const bool docker_archive = flags->format == "docker-archive";
  if (access->files != nullptr) {
    cri::files::ExportRequest request;
    request.set_image(flags->name);
    request.set_path(AbsolutePath(flags->path));
    request.set_docker_archive(docker_archive);
    Task<absl::StatusOr<cri::files::ExportResponse>> call = access->files->Export(std::move(request));
    absl::StatusOr<cri::files::ExportResponse> response = co_await std::move(call);
    co_return response.status();
  }
  Task<absl::Status> run = access->store->Export(flags->name, flags->path, docker_archive);
  absl::Status status = co_await std::move(run);
  co_return status;
}

using Subcommand = Task<absl::Status> (*)(Env*, Access*, const ImageFlags*);

Task<absl::Status> RunAndClose(Env* env, Access* access, const ImageFlags* flags, Subcommand subcommand) {
  Task<absl::Status> run = subcommand(env, access, flags);
  absl::Status status = co_await std::move(run);
  if (access->store != nullptr) {
    Task<void> close = access->store->Close();
    co_await std::move(close);
  }
  co_return status;
}

int RunSubcommand(ImageFlags flags, Subcommand subcommand) {
  InitLog(LogOptions{"image", LogLevel::kWarning});
  RealEnv env(Paths::WithRoot(flags.root));
  Complete(env, &flags);
  auto access = OpenAccess(env, flags);
  absl::Status status = access.status();
  if (status.ok()) status = env.RunUntilDone(RunAndClose(&env, &*access, &flags, subcommand));
  if (status.ok()) return 0;
  std::fprintf(stderr, "keelson: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace

// ---- what is shown ----

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string FormatImages(std::vector<ImageRow> rows, bool full_ids) {
  std::vector<std::vector<std::string>> lines;
  for (ImageRow& row : rows) {
    if (row.names.empty()) row.names = {"<none>"};
    for (const std::string& name : row.names) {
      lines.push_back({name, full_ids ? row.id : TrimmedId(row.id), FormatBytes(row.size_bytes),
                       row.pinned ? "yes" : ""});
    }
  }
  std::sort(lines.begin(), lines.end());
  lines.insert(lines.begin(), {"IMAGE", "ID", "SIZE", "PINNED"});
  std::vector<size_t> widths(lines[0].size(), 0);
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string out;
  for (const auto& line : lines) {
    std::string text;
    for (size_t i = 0; i < line.size(); ++i) {
      text += line[i];
      text.append(widths[i] - line[i].size() + 2, ' ');
    }
    text.erase(text.find_last_not_of(' ') + 1);
    StrAppend(&out, text, "\n");
  }
  return out;
}

void PullMeter::Add(const images::PullProgress& progress) {
  layers_[progress.layer_digest] = {progress.done_bytes, progress.total_bytes};
}

std::string PullMeter::Line(size_t columns) const {
  uint64_t done = 0, total = 0;
  size_t whole = 0;
  for (const auto& [digest, layer] : layers_) {
    done += layer.done_bytes;
    total += layer.total_bytes;
    whole += layer.done_bytes == layer.total_bytes;
  }
  double share = total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total);
  size_t cells = std::min(kBarCells, static_cast<size_t>(share * kBarCells));
  std::string bar(cells, '#');
  bar.append(kBarCells - cells, '.');
  std::string out = StrCat("[", bar, "] ", static_cast<int>(share * 100), "% ", FormatBytes(done), " of ",
                           FormatBytes(total), ", ", whole, " of ", layers_.size(), " layers");
  if (out.size() > columns) out.resize(columns);
  return out;
}

void AddImageCommand(CLI::App& app, int* exit_status) {
  auto flags = std::make_shared<ImageFlags>();
  CLI::App* image =
      app.add_subcommand("image", "Pull, list, remove, import and export the images of this node");
  image->require_subcommand(1);
  image->add_option("--root", flags->root, "The instance below this folder");
  image->add_option("--endpoint", flags->endpoint,
                    "Socket of the CRI server; default: /run/keelson/cri/cri.sock");
  image->add_option("--images-dir", flags->images_dir,
                    "The image store, without a server; default: /var/lib/keelson/cri/images");
  image->add_option("--registries-dir", flags->registries_dir,
                    "HOST/hosts.toml; default: /etc/keelson/certs.d");
  image->add_option("--auth-file", flags->auth_file, "Credentials, as docker's config.json");
  auto add = [&](const char* name, const char* help, Subcommand subcommand) {
    CLI::App* command = image->add_subcommand(name, help);
    command->fallthrough();
    command->callback([flags, exit_status, subcommand] { *exit_status = RunSubcommand(*flags, subcommand); });
    return command;
  };
  CLI::App* pull = add("pull", "Fetch images from their registries", Pull);
  pull->add_option("IMAGE", flags->names, "busybox:1.36, registry/name@sha256:...")->required();
  CLI::Option* username = pull->add_option("--username", flags->username, "For the registry");
  pull->add_option("--password-file", flags->password_file, "File that holds the password")->needs(username);
  username->needs("--password-file");
  pull->add_flag("--pin", flags->pin, "Never remove it when space is needed");
  CLI::App* list = add("ls", "List the images", List);
  list->add_flag("--quiet,-q", flags->quiet, "IDs only");
  list->add_flag("--no-trunc", flags->full_ids, "Whole IDs");
  CLI::App* remove = add("rm", "Remove tags, or images by ID", Remove);
  remove->add_option("IMAGE", flags->names, "Tag, digest or ID")->required();
  CLI::App* inspect = add("inspect", "Show one image with its configuration", Inspect);
  inspect->add_option("IMAGE", flags->names, "Tag, digest or ID")->required();
  CLI::App* import = add("import", "Take in an OCI layout (directory or tar) or a docker archive", Import);
  import->add_option("PATH", flags->path, "Directory or file")->required();
  CLI::App* export_command = add("export", "Write an image to a directory or file", Export);
  export_command->add_option("IMAGE", flags->name, "Tag, digest or ID")->required();
  export_command->add_option("PATH", flags->path, "Where to")->required();
  export_command->add_option("--format", flags->format, "oci: a layout directory; docker-archive: a tar")
      ->check(CLI::IsMember({"oci", "docker-archive"}))
      ->capture_default_str();
}

}  // namespace keelson
