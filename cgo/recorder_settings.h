/*
** For who reads the configuration, which is recorder_go.c, and in a library without Go
** cmd/libverneuil_recorder: where the settings go that recorder_go.h declares.
*/
#ifndef VERNEUIL_RECORDER_SETTINGS_H
#define VERNEUIL_RECORDER_SETTINGS_H
#include "goexports_types.h"

/* Were settings given? They do not change after that. */
int recorderIsConfigured(void);

/* Makes s the settings, unless another thread was faster. The strings, malloc'd, are taken over. */
void recorderSettle(VerneuilSettings s);

#endif
