"""What goes wrong between here and the bank, one row a fault; the test and the document of it."""
