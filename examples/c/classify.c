/* Classify a PPM (color) or PGM (gray) image with a library made by `bwn compile --name net`. */
#include <stdio.h>
#include <stdlib.h>

#include "net.h"

/* A number of a PNM header: white space and comments come before it. */
static int number(FILE *file) {
    int value = 0, c = fgetc(file);
    while (c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = fgetc(file);
        c = fgetc(file);
    }
    for (; c >= '0' && c <= '9' && value < 100000; c = fgetc(file)) value = 10 * value + c - '0';
    return value; /* the one character after a number is read too */
}

int main(int argc, char **argv) {
    float probabilities[NET_CLASSES];
    int i, channels, width, height, code, best = 0;
    unsigned char *pixels, *arena; /* each thread needs an arena of its own */
    FILE *file;
    if (argc != 2) {
        fprintf(stderr, "usage: %s IMAGE.ppm\n", argv[0]);
        return 2;
    }
    file = fopen(argv[1], "rb");
    if (!file) {
        perror(argv[1]);
        return 3;
    }
    code = fgetc(file) == 'P' ? fgetc(file) : 0;
    channels = code == '6' ? 3 : code == '5' ? 1 : 0;
    width = number(file);
    height = number(file);
    if (channels == 0 || width < 1 || height < 1 || number(file) != 255) {
        fprintf(stderr, "%s: not a binary PPM or PGM image of 8 bits\n", argv[1]);
        return 3;
    }
    pixels = malloc((size_t)width * height * channels);
    arena = aligned_alloc(64, net_arena_size());
    if (!pixels || !arena) {
        fprintf(stderr, "%s: not enough memory\n", argv[1]);
        return 1;
    }
    if (fread(pixels, channels, (size_t)width * height, file) != (size_t)width * height) {
        fprintf(stderr, "%s: truncated\n", argv[1]);
        return 3;
    }
    fclose(file);

    code = net_init(arena);
    if (!code)
        code = net_classify(arena, pixels, width, height, channels, (ptrdiff_t)width * channels,
                            probabilities);
    if (code) {
        fprintf(stderr, "%s: %s\n", argv[1], net_error(code));
        return 1;
    }
    for (i = 1; i < NET_CLASSES; i++)
        if (probabilities[i] > probabilities[best]) best = i;
    printf("%s: %s (%.1f %%)\n", argv[1], net_class(best), 100 * probabilities[best]);
    free(arena);
    free(pixels);
    return 0;
}
