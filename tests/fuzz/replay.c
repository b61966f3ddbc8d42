/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over the files of the folders named: the committed corpus, in builds without libFuzzer.
 * Fails when a folder holds no file, so that a lost corpus is noticed. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *dir, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1); /* exact size: the sanitizer sees a read past the end */
    if (!data || fread(data, 1, (size_t)size, f) != (size_t)size) exit(1);
    fclose(f);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 1;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        int files = 0;
        for (struct dirent *e; d && (e = readdir(d));)
            if (e->d_name[0] != '.') files += replay_file(argv[i], e->d_name);
        if (d) closedir(d);
        printf("%s: %d inputs\n", argv[i], files);
        if (!files) return 1;
    }
    return 0;
}
