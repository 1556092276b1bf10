/*
 * A disk that fails on command: preloaded into a server (LD_PRELOAD), it stands between the process
 * and the calls that write and sync its log and its engine's logs.
 *
 * What a disk does to unsynced data is emulated too. Every write to a tracked file is remembered with
 * the bytes it replaced until the file is synced. When a sync is made to fail, or the power to fail,
 * unsynced writes are taken back, whole or by sectors: that is how a later start finds out whether
 * something was acknowledged that was never on the disk. (A kill alone would not: the page cache
 * outlives the process.)
 *
 * The file named by FAULTY_DISK_CONTROL holds one rule, replaced by rename and read anew then:
 *
 *     <call> <path part> <action> <argument> <skip>
 *
 * call: "write" or "sync"; path part: the rule is for tracked files whose path contains it; skip:
 * matching calls to let pass first. Actions:
 *     fail <errno>      a sync also takes unsynced writes of the file back
 *     short 0           writes half, and says so
 *     torn 0            writes half, and the process is killed
 *     power <seed>      seed 0 takes back all that is unsynced, another one a random part of it, and
 *                       the process is killed
 *     delay <ms>        goes on after a pause
 *     hang 0            does not come back until there is another rule, or none
 * When a rule other than delay first strikes, an empty file <control>.struck is made.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, WORD_SIZE = 256, SECTOR_SIZE = 512, HANG_LOOK_MS = 5 };

typedef struct Undo {
  struct Undo *older;
  off_t offset;
  size_t length;
  size_t old_length; /* bytes that were there before */
  off_t file_size;   /* before */
  unsigned char old[];
} Undo;

typedef struct File {
  struct File *next;
  dev_t device;
  ino_t inode;
  int fd; /* our own: the process may close its descriptor, or rename the file */
  Undo *newest;
} File;

typedef struct {
  char call[WORD_SIZE];
  char path_part[WORD_SIZE];
  char action[WORD_SIZE];
  unsigned long argument;
  unsigned long skip;
} Rule;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *control_path;
static struct stat control_seen;
static bool has_rule;
static bool has_struck;
static Rule rule;
static File *files;

static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void prepare(void) {
  real_pwrite = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
  real_pwritev = (ssize_t(*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev64");
  real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
  real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  control_path = getenv("FAULTY_DISK_CONTROL");
}

/* The log's segments, and the engine's log files: all that is written without a sync of its own. */
static bool path_of_tracked(int fd, char path[PATH_SIZE]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_SIZE - 1);
  if (length < 0) return false;
  path[length] = '\0';
  const char *dot = strrchr(path, '.');
  if (dot == NULL) return false;
  if (strstr(path, "/wal/") != NULL) return strcmp(dot, ".wal") == 0 || strcmp(dot, ".tmp") == 0;
  return strstr(path, "/engine/") != NULL && strcmp(dot, ".log") == 0;
}

static void read_rule(void) {
  struct stat now;
  if (control_path == NULL || stat(control_path, &now) != 0) {
    has_rule = false;
    control_seen.st_ino = 0;
    return;
  }
  if (now.st_ino == control_seen.st_ino && now.st_mtim.tv_sec == control_seen.st_mtim.tv_sec &&
      now.st_mtim.tv_nsec == control_seen.st_mtim.tv_nsec)
    return;
  control_seen = now;
  has_rule = false;
  has_struck = false;
  FILE *file = fopen(control_path, "r");
  if (file == NULL) return;
  has_rule = fscanf(file, "%255s %255s %255s %lu %lu", rule.call, rule.path_part, rule.action,
                    &rule.argument, &rule.skip) == 5;
  fclose(file);
}

/* Whether the rule is for this call; counts those that it lets pass. */
static bool strikes(const char *call, const char *path) {
  read_rule();
  if (!has_rule || strcmp(rule.call, call) != 0 || strstr(path, rule.path_part) == NULL)
    return false;
  if (rule.skip > 0) {
    rule.skip--;
    return false;
  }
  if (!has_struck && strcmp(rule.action, "delay") != 0) {
    char mark[PATH_SIZE];
    snprintf(mark, sizeof mark, "%s.struck", control_path);
    int fd = open(mark, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
  }
  has_struck = true;
  return true;
}

static File *file_of(int fd) {
  struct stat found;
  if (fstat(fd, &found) != 0) return NULL;
  for (File *file = files; file != NULL; file = file->next)
    if (file->device == found.st_dev && file->inode == found.st_ino) return file;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  /* Opened anew, since the process's own descriptor may not be open for reading. It also keeps the
     inode, and with it its number, from being used again. */
  int own = open(link, O_RDWR | O_CLOEXEC);
  if (own < 0) abort();
  File *file = calloc(1, sizeof *file);
  if (file == NULL) abort();
  *file = (File){.next = files, .device = found.st_dev, .inode = found.st_ino, .fd = own};
  files = file;
  return file;
}

static void remember(int fd, off_t offset, size_t length) {
  File *file = file_of(fd);
  struct stat found;
  if (file == NULL || fstat(fd, &found) != 0) return;
  Undo *undo = malloc(sizeof *undo + length);
  if (undo == NULL) abort();
  ssize_t read = pread(file->fd, undo->old, length, offset);
  *undo = (Undo){.older = file->newest,
                 .offset = offset,
                 .length = length,
                 .old_length = read < 0 ? 0 : (size_t)read,
                 .file_size = found.st_size};
  file->newest = undo;
}

static void forget(File *file) {
  while (file->newest != NULL) {
    Undo *undo = file->newest;
    file->newest = undo->older;
    free(undo);
  }
}

static uint64_t random_state;

static bool coin(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (random_state >> 32) & 1;
}

/* Newest first. With a seed each sector is taken back or stays; a file that grew is cut somewhere. */
static void take_back(File *file, unsigned long seed) {
  random_state = seed * 0x9e3779b97f4a7c15u;
  for (const Undo *undo = file->newest; undo != NULL; undo = undo->older) {
    for (size_t at = 0; at < undo->old_length; at += SECTOR_SIZE) {
      size_t left = undo->old_length - at;
      size_t length = left < SECTOR_SIZE ? left : SECTOR_SIZE;
      if (seed != 0 && coin()) continue;
      if (real_pwrite(file->fd, undo->old + at, length, undo->offset + (off_t)at) < 0) abort();
    }
    bool grew = undo->offset + (off_t)undo->length > undo->file_size;
    if (grew && (seed == 0 || coin()) && ftruncate(file->fd, undo->file_size) != 0) abort();
  }
  forget(file);
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static void pause_ms(unsigned long ms) {
  struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

/* Called and left with the lock held, which others get meanwhile: calls that the rule is not for go on. */
static void hang(void) {
  ino_t hanging = control_seen.st_ino;
  while (has_rule && control_seen.st_ino == hanging) {
    pthread_mutex_unlock(&lock);
    pause_ms(HANG_LOOK_MS);
    pthread_mutex_lock(&lock);
    read_rule();
  }
}

typedef struct {
  int fd;
  const struct iovec *parts;
  int count;
  off_t offset; /* -1: at the file's position */
} Write;

static size_t write_length(const Write *request) {
  size_t length = 0;
  for (int i = 0; i < request->count; i++) length += request->parts[i].iov_len;
  return length;
}

static ssize_t real(const Write *request) {
  const struct iovec *first = request->parts;
  if (request->offset < 0) return real_write(request->fd, first->iov_base, first->iov_len);
  if (request->count == 1)
    return real_pwrite(request->fd, first->iov_base, first->iov_len, request->offset);
  return real_pwritev(request->fd, request->parts, request->count, request->offset);
}

static ssize_t half(const Write *request) {
  struct iovec part = {request->parts->iov_base, request->parts->iov_len / 2};
  Write less = {request->fd, &part, 1, request->offset};
  return real(&less);
}

static void take_all_back(void) {
  for (File *file = files; file != NULL; file = file->next) take_back(file, rule.argument);
}

static ssize_t faulty_write(const Write *request) {
  char path[PATH_SIZE];
  if (!path_of_tracked(request->fd, path)) return real(request);
  pthread_mutex_lock(&lock);
  bool struck = strikes("write", path);
  if (struck && strcmp(rule.action, "hang") == 0) {
    hang();
    struck = false;
  }
  if (struck && strcmp(rule.action, "fail") == 0) {
    errno = (int)rule.argument;
    pthread_mutex_unlock(&lock);
    return -1;
  }
  if (struck && strcmp(rule.action, "power") == 0) {
    take_all_back();
    die();
  }
  off_t offset = request->offset;
  if (offset < 0) offset = lseek(request->fd, 0, SEEK_CUR);
  remember(request->fd, offset, write_length(request));
  if (struck && strcmp(rule.action, "torn") == 0) {
    half(request);
    die();
  }
  ssize_t written = struck && strcmp(rule.action, "short") == 0 ? half(request) : real(request);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return written;
}

static int faulty_sync(int fd, int (*sync)(int)) {
  char path[PATH_SIZE];
  if (!path_of_tracked(fd, path)) return sync(fd);
  pthread_mutex_lock(&lock);
  bool struck = strikes("sync", path);
  if (struck && strcmp(rule.action, "delay") == 0) {
    unsigned long ms = rule.argument;
    pthread_mutex_unlock(&lock);
    pause_ms(ms);
    pthread_mutex_lock(&lock);
    struck = false;
  }
  if (struck && strcmp(rule.action, "hang") == 0) {
    hang();
    struck = false;
  }
  File *file = file_of(fd);
  if (struck && strcmp(rule.action, "power") == 0) {
    take_all_back();
    die();
  }
  if (struck && file != NULL) {
    take_back(file, 0);
    errno = (int)rule.argument;
    pthread_mutex_unlock(&lock);
    return -1;
  }
  int result = sync(fd);
  int error = errno;
  if (result == 0 && file != NULL) forget(file);
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
  struct iovec part = {(void *)bytes, length};
  Write request = {fd, &part, 1, offset};
  return faulty_write(&request);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  return pwrite64(fd, bytes, length, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
  Write request = {fd, parts, count, offset};
  return faulty_write(&request);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  return pwritev64(fd, parts, count, offset);
}

ssize_t write(int fd, const void *bytes, size_t length) {
  struct iovec part = {(void *)bytes, length};
  Write request = {fd, &part, 1, -1};
  return faulty_write(&request);
}

int fsync(int fd) { return faulty_sync(fd, real_fsync); }

int fdatasync(int fd) { return faulty_sync(fd, real_fdatasync); }
