"""The workstation side: teachers to bundles. Imports edgeret; edgeret never imports it."""
