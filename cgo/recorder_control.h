/*
** xFileControl: it also hears our pragma, and the question of the SQL functions (recorderAsk, in
** recorder.h).
*/
#ifndef VERNEUIL_RECORDER_CONTROL_H
#define VERNEUIL_RECORDER_CONTROL_H
#include "verneuil.h"

int recorderFileControl(sqlite3_file *pFile, int op, void *pArg);

#endif
