// The programs that the images of upstream's CRI validation suite hold and Debian's busybox does not offer:
// one static program that plays the part of the name it is called by. hack/critest compiles it and builds the
// images.
//
//   sh     a shell that looks at the file system: Debian's busybox runs its applets without looking for
//   /bin/ls, so
//          a path that the runtime has masked would go unnoticed
//   nginx  a web server with nginx's pid file and process title; httpd: the same with another name in its log
//   nnp    prints its effective uid; its file is setuid root
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kMaxWords = 32, kRequestBytes = 4096, kBacklog = 64, kCannotExecute = 126, kDefaultPort = 80 };

static const char kPlain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=,:@%+- ";

// Whether some directory of PATH has a file of this name, executable or not.
static int OnPath(const char* name) {
  char path[512], dirs[2048];
  struct stat info;
  if (strchr(name, '/') != NULL) return stat(name, &info) == 0;
  const char* value = getenv("PATH");
  snprintf(dirs, sizeof dirs, "%s", value != NULL ? value : "/usr/sbin:/usr/bin:/sbin:/bin");
  char* rest = NULL;
  for (char* dir = strtok_r(dirs, ":", &rest); dir != NULL; dir = strtok_r(NULL, ":", &rest)) {
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (stat(path, &info) == 0) return 1;
  }
  return 0;
}

// A simple command is executed as a shell would, from PATH; everything else is busybox' business.
static int Shell(int argc, char** argv) {
  char text[1024];
  char* words[kMaxWords + 1];
  if (argc == 3 && strcmp(argv[1], "-c") == 0 && strlen(argv[2]) < sizeof text &&
      strspn(argv[2], kPlain) == strlen(argv[2])) {
    int count = 0;
    char* rest = NULL;
    snprintf(text, sizeof text, "%s", argv[2]);
    for (char* word = strtok_r(text, " ", &rest); word != NULL && count < kMaxWords;
         word = strtok_r(NULL, " ", &rest)) {
      words[count++] = word;
    }
    words[count] = NULL;
    if (count > 0 && count < kMaxWords && strchr(words[0], '=') == NULL && OnPath(words[0])) {
      execvp(words[0], words);
      fprintf(stderr, "%s: %s: %s\n", argv[0], words[0], strerror(errno));
      return kCannotExecute;
    }
  }
  execv("/bin/busybox", argv);
  fprintf(stderr, "%s: /bin/busybox: %s\n", argv[0], strerror(errno));
  return kCannotExecute;
}

static void Leave(int number) {
  (void)number;
  _exit(0);
}

// On all addresses, IPv6 too where there is IPv6. -1: failed, errno set.
static int Listen(int port) {
  static const int kOn = 1, kOff = 0;
  struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port)};
  struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &kOff, sizeof kOff);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &kOn, sizeof kOn);
    if (bind(fd, (struct sockaddr*)&any6, sizeof any6) == 0) return listen(fd, kBacklog) == 0 ? fd : -1;
    close(fd);
  }
  fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &kOn, sizeof kOn);
  if (bind(fd, (struct sockaddr*)&any4, sizeof any4) != 0) return -1;
  return listen(fd, kBacklog) == 0 ? fd : -1;
}

static void Answer(int fd, const char* name) {
  char request[kRequestBytes + 1], response[512], body[128];
  size_t have = 0;
  struct timeval limit = {.tv_sec = 5};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  for (;;) {
    ssize_t got = read(fd, request + have, kRequestBytes - have);
    if (got <= 0) return;
    have += (size_t)got;
    request[have] = '\0';
    if (strstr(request, "\r\n\r\n") != NULL) break;
    if (have == kRequestBytes) return;
  }
  int length = snprintf(body, sizeof body, "<html><title>Welcome to %s!</title></html>\n", name);
  int bytes = snprintf(response, sizeof response,
                       "HTTP/1.1 200 OK\r\nServer: %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
                       "Connection: close\r\n\r\n%s",
                       name, length, body);
  if (write(fd, response, (size_t)bytes) == bytes) shutdown(fd, SHUT_WR);
  while (read(fd, request, kRequestBytes) > 0) {
  }
}

static int WebServer(const char* name, int argc, char** argv) {
  // nginx shows itself as "nginx: master process COMMAND": a second exec is the plain way to another title.
  if (strcmp(name, "nginx") == 0 && strchr(argv[0], ':') == NULL) {
    char title[512] = "nginx: master process";
    for (int i = 0; i < argc; ++i) {
      size_t have = strlen(title);
      snprintf(title + have, sizeof title - have, " %s", argv[i]);
    }
    char* words[] = {title, NULL};
    execv("/usr/sbin/nginx", words);
    perror("nginx: /usr/sbin/nginx");
    return kCannotExecute;
  }
  signal(SIGTERM, Leave);
  signal(SIGINT, Leave);
  signal(SIGQUIT, Leave);
  signal(SIGPIPE, SIG_IGN);
  const char* value = getenv("PORT");
  int port = value != NULL ? (int)strtol(value, NULL, 10) : kDefaultPort;
  int listener = Listen(port);
  if (listener < 0) {
    fprintf(stderr, "%s: port %d: %s\n", name, port, strerror(errno));
    return 1;
  }
  if (strcmp(name, "nginx") == 0) {
    FILE* file = fopen("/var/run/nginx.pid", "w");
    if (file != NULL) {
      fprintf(file, "%d\n", (int)getpid());
      fclose(file);
    }
  }
  fprintf(stderr, "%s: stand-in, serving on port %d\n", name, port);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    Answer(fd, name);
    close(fd);
  }
}

int main(int argc, char** argv) {
  char name[64];
  const char* slash = strrchr(argv[0], '/');
  snprintf(name, sizeof name, "%s", strchr(argv[0], ':') == NULL && slash != NULL ? slash + 1 : argv[0]);
  name[strcspn(name, ":")] = '\0';
  if (strcmp(name, "sh") == 0 || strcmp(name, "-sh") == 0) return Shell(argc, argv);
  if (strcmp(name, "nginx") == 0 || strcmp(name, "httpd") == 0) return WebServer(name, argc, argv);
  if (strcmp(name, "nnp") == 0) return printf("Effective uid: %d\n", (int)geteuid()) < 0;
  fprintf(stderr, "%s: called by a name it has no part for\n", argv[0]);
  return kCannotExecute;
}
