/*
 * static MOUNTPOINT FILE...: a FUSE server that does as little as one can. Its files
 * are copies of the given ones, made once; libfuse's low-level interface, its own
 * threads, and the same replies as candor's where they decide the cost: DIRECT_IO, no
 * FLUSH, names and attributes that hold for long. What it takes is what FUSE takes.
 */
#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fuse_lowlevel.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_FILES 16
#define MAX_SIZE (64 << 10)
#define FOREVER 86400.0

struct file {
	const char *name;
	char data[MAX_SIZE];
	size_t size;
};

static struct file files[MAX_FILES];
static size_t count;

/* A file's inode number is its place in the table, after the root's. */
static const struct file *file_of(fuse_ino_t ino)
{
	size_t i = ino - FUSE_ROOT_ID - 1;

	return ino > FUSE_ROOT_ID && i < count ? &files[i] : NULL;
}

static struct stat attributes(fuse_ino_t ino)
{
	const struct file *f = file_of(ino);
	struct stat st = { .st_ino = ino, .st_nlink = 1, .st_mode = f ? S_IFREG | 0444 : S_IFDIR | 0555 };

	if (f)
		st.st_size = f->size;
	return st;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	for (size_t i = 0; parent == FUSE_ROOT_ID && i < count; i++) {
		if (strcmp(files[i].name, name) == 0) {
			fuse_ino_t ino = FUSE_ROOT_ID + 1 + i;
			struct fuse_entry_param e = {
				.ino = ino, .attr = attributes(ino), .attr_timeout = FOREVER, .entry_timeout = FOREVER,
			};

			fuse_reply_entry(req, &e);
			return;
		}
	}
	fuse_reply_err(req, ENOENT);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = attributes(ino);

	(void)fi;
	fuse_reply_attr(req, &st, FOREVER);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!file_of(ino)) {
		fuse_reply_err(req, EISDIR);
		return;
	}
	fi->direct_io = 1;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	const struct file *f = file_of(ino);
	size_t left;

	(void)fi;
	if (!f || off < 0) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	left = (size_t)off < f->size ? f->size - off : 0;
	fuse_reply_buf(req, left ? f->data + off : NULL, left < size ? left : size);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = on_lookup, .getattr = on_getattr, .open = on_open, .read = on_read,
};

/* copy returns 0, or -1 with a message on stderr. */
static int copy(char *path)
{
	FILE *in = fopen(path, "r");
	struct file *f = &files[count];

	if (!in) {
		perror(path);
		return -1;
	}
	f->size = fread(f->data, 1, MAX_SIZE, in);
	if (ferror(in) || f->size == MAX_SIZE) {
		fprintf(stderr, "%s: cannot be read, or is too large\n", path);
		fclose(in);
		return -1;
	}
	fclose(in);
	f->name = basename(path);
	count++;
	return 0;
}

static int serve(const char *mountpoint)
{
	char *argv[] = { "static", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
	int result = -1;

	if (session && config && fuse_set_signal_handlers(session) == 0) {
		if (fuse_session_mount(session, mountpoint) == 0) {
			result = fuse_session_loop_mt(session, config);
			fuse_session_unmount(session);
		}
		fuse_remove_signal_handlers(session);
	}
	if (session)
		fuse_session_destroy(session);
	if (config)
		fuse_loop_cfg_destroy(config);
	fuse_opt_free_args(&args);
	return result;
}

int main(int argc, char *argv[])
{
	if (argc < 3 || argc - 2 > MAX_FILES) {
		fprintf(stderr, "usage: static MOUNTPOINT FILE... (at most %d)\n", MAX_FILES);
		return 2;
	}
	for (int i = 2; i < argc; i++)
		if (copy(argv[i]) != 0)
			return 1;
	/* Told to end by a signal, the loop returns its number. */
	return serve(argv[1]) >= 0 ? 0 : 1;
}
